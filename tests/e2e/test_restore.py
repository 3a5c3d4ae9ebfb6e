"""Restores in a whole system: by the command line, to a folder and back to the host, through a worker that dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

from shared.domain.events import (
    RestoreAbandoned,
    RestoreCancelled,
    RestoreCompleted,
    RestoreFailed,
    RestoreStarted,
    SnapshotCompleted,
)
from tests.support.installation import Installation, installation, of_type
from tests.support.restoring import make_odd_home
from tests.support.trees import differences, snapshot_of

EVERY_DAY = "SNAPSHOT_INTERVAL_HOURS=24\nTAR_INTERVAL_HOURS=24\n"
"""So that no slot begins while a test looks, whatever the time is."""
SLOWLY = 2_000
"""KiB/s at which a host is restored to, so that a test can step in."""


def listed_key(system: Installation, said: str) -> None:
    """What the owner of the host does: put the line that he was told into authorized_keys."""
    (line,) = [line for line in said.splitlines() if line.startswith("restrict,command=")]
    with (system.sshd.folder / "authorized_keys").open("a") as keys:
        keys.write(f"{line}\n")


async def snapshot_taken(system: Installation) -> Path:
    await system.wait_for(lambda events: bool(of_type(events, SnapshotCompleted)), what="The first snapshot")
    return system.snapshots("nas")[0]


async def test_a_snapshot_comes_back_to_a_folder_and_to_its_host(place: Path) -> None:
    async with installation(place, ["nas"], env=EVERY_DAY) as system:
        make_odd_home(system.source("nas") / "home", place / "nowhere")
        await system.start()
        snapshot = await snapshot_taken(system)
        wanted, owners = snapshot_of(snapshot / "home"), os.geteuid() == 0

        folder = str(system.settings.data_dir / "restored")
        done = await system.cli("restore", "nas", "latest", "--to", folder, "--wait")
        assert "Restored and verified" in done.stdout.decode()
        (name,) = os.listdir(folder)
        assert differences(wanted, snapshot_of(Path(folder, name, "home")), owners=owners) == []

        refused = await system.cli("restore", "nas", "latest", "--to-host", "--wait", check=False)
        assert refused.returncode == 1
        assert "hosts restore-key nas" in refused.stdout.decode()
        listed_key(system, (await system.cli("hosts", "restore-key", "nas")).stdout.decode())
        done = await system.cli("restore", "nas", snapshot.name, "home/alice", "--to-host", "--wait", "--json")
        (where,) = json.loads(done.stdout)["places"]
        beside = Path(where.partition(":")[2])
        assert beside.parent == system.source("nas") / "home"
        alice = snapshot_of(snapshot / "home/alice")
        assert differences(alice, snapshot_of(beside / "alice"), owners=owners) == []

        found = json.loads((await system.cli("restores", "nas", "--json")).stdout)
        assert [one["outcome"] for one in found] == ["completed", "failed", "completed"]
        assert "All is well." in (await system.cli("audit")).stdout.decode()
        elsewhere = await system.cli("restore", "nas", "latest", "--to", "/etc", check=False)
        assert (elsewhere.returncode, "Nothing is restored to" in elsewhere.stderr.decode()) == (1, True)


async def test_a_restorer_that_is_killed_begins_anew_and_a_cancel_ends_it(place: Path) -> None:
    slow = f"bandwidth_limit_kib = {SLOWLY}\n"
    async with installation(place, ["nas"], env=EVERY_DAY, host_toml=slow) as system:
        home = system.source("nas") / "home"
        home.mkdir(parents=True)
        (home / "noise").write_bytes(os.urandom(2 * SLOWLY * 1024))
        await system.start()
        await snapshot_taken(system)
        listed_key(system, (await system.cli("hosts", "restore-key", "nas")).stdout.decode())

        await system.cli("restore", "nas", "latest", "--to-host")
        await system.wait_for(lambda events: bool(of_type(events, RestoreStarted)), what="A restore under way")
        await under_way(system)
        kill_restorer(system)
        events = await system.wait_for(lambda events: bool(of_type(events, RestoreCompleted)), what="The restore")
        assert len(of_type(events, RestoreStarted)) == 2
        assert len(of_type(events, RestoreAbandoned)) == 1
        assert not of_type(events, RestoreFailed)
        (done,) = of_type(events, RestoreCompleted)
        assert isinstance(done.event, RestoreCompleted)
        container = Path(done.event.places[0].partition(":")[2])
        assert (container / "home/noise").read_bytes() == (home / "noise").read_bytes()
        verified = [path.name for path in system.source("nas").glob("*.verified")]
        assert verified == [f"{container.name}.verified"]

        asked = json.loads((await system.cli("restore", "nas", "latest", "--to-host", "--json")).stdout)
        await system.wait_for(lambda events: len(of_type(events, RestoreStarted)) == 3, what="Another one")
        await system.cli("restores", "nas", "--cancel", asked["restore"])
        events = await system.wait_for(lambda events: bool(of_type(events, RestoreCancelled)), what="The cancel")
        assert len(of_type(events, RestoreCompleted)) == 1
        assert [path.name for path in system.source("nas").glob("*.verified")] == verified


async def under_way(system: Installation) -> None:
    """Wait until something of it is on the host."""
    async with asyncio.timeout(20):
        while not list(system.source("nas").glob("home.restored-*/home/.noise.*")):  # noqa: ASYNC110  # nobody announces it
            await asyncio.sleep(0.02)


def kill_restorer(system: Installation) -> None:
    assert system.system is not None
    assert system.system.supervisor is not None
    pid = system.system.supervisor.pid("restorer-1")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
