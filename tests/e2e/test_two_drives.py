"""Two drives in a running system: a host moves to the new one, and its backups go on from what moved."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shared.config import load_settings
from shared.domain.events import HostMoved, SnapshotCompleted
from tests.support.installation import FAST_BUS, PATIENCE_SECONDS, Installation, installation, of_type
from tests.support.trees import differences, snapshot_of

EVERY_DAY = "SNAPSHOT_INTERVAL_HOURS=24\nTAR_INTERVAL_HOURS=24\n"
"""So that no slot begins while the test looks, whatever the time is."""


def lives_on(made: Installation, store: str) -> None:
    """Say in backup.toml where the host lives."""
    toml = made.place / "backup.toml"
    text = toml.read_text()
    lines = [line for line in text.splitlines() if not line.startswith("store = ")]
    at = lines.index("[hosts.nas]") + 1
    toml.write_text("\n".join([*lines[:at], f'store = "{store}"', *lines[at:], ""]))
    made.settings = load_settings({}, env_file=made.place / "test.env", toml_file=toml)


async def moved(made: Installation) -> str:
    """What the command says as soon as no job of the host is under way."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            done = await made.cli("hosts", "move", "nas", "second", check=False)
            said = " ".join((done.stdout + done.stderr).decode().split())
            if "is being worked on by another process" not in said:
                assert done.returncode == 0, said
                return said


def home(folder: Path) -> Path:
    return folder / "latest" / "home"


@pytest.mark.timeout(300)
async def test_a_host_moves_to_a_second_drive_and_goes_on_from_there(place: Path) -> None:
    second = place / "second"
    second.mkdir()
    toml = f'{FAST_BUS}[stores.second]\nroot = "{second}"\n'
    async with installation(place, ["nas"], toml=toml, env=EVERY_DAY) as made:
        (made.source("nas") / "home").mkdir(parents=True)
        (made.source("nas") / "home" / "kept").write_text("as it was")
        await made.start()
        await made.one_more_run("nas")
        await made.one_more_run("nas")

        await made.cli("init", "--store", "second")
        said = await moved(made)
        assert "were compared byte for byte" in said
        assert 'Now write store = "second" into [hosts.nas]' in said
        doctor = (await made.cli("doctor", check=False)).stdout.decode()
        assert "kept on the store 'second'" in " ".join(doctor.split())
        assert differences(snapshot_of(home(made.folder("nas"))), snapshot_of(home(second / "nas"))) == []

        await made.stop()
        lives_on(made, "second")
        await made.start()
        events = await made.one_more_run("nas")
        newest = of_type(events, SnapshotCompleted, "nas")[-1].event
        assert isinstance(newest, SnapshotCompleted)
        assert (second / "nas" / "hourly" / newest.snapshot).is_dir()
        assert (newest.store, newest.transferred_files) == ("second", 0)
        assert len(of_type(events, HostMoved, "nas")) == 1
        audit = (await made.cli("audit")).stdout.decode()
        assert "All is well" in audit
        assert "was left behind when nas moved to second" in " ".join(audit.split())
        again = (await made.cli("hosts", "move", "nas", "second")).stdout.decode()
        assert "lives on second already" in again
