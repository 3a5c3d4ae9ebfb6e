"""A host that lies, stalls, drips, dies and never ends: each run ends soon, says why, and harms nobody."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from services.snapshotter import rsync, transfer
from shared.domain import room
from shared.domain.errors import RunFailed
from shared.domain.names import HostName
from tests.support.backups import Backups, Taken, backups, files_under, mounted
from tests.support.builders import SLOT
from tests.support.places import new_place
from tests.support.stock import put_snapshot
from tests.support.trees import Tree, differences, snapshot_of

FAKE: Final = Path(__file__).with_name("fake_sender.py")
TIMEOUT_SECONDS, STALL_SECONDS = 4, 5.0
"""Instead of five minutes and half an hour."""
BOUND_SECONDS: Final = 45
LARGE_BYTES: Final = 2_000_000

ATTACKS: Final = {
    "lists a folder that nobody asked for": "extra {source}/./secret",
    "lists the root of everything": "extra /",
    "lists a path that leads up": "rewrite QQ ..",
    "lists an absolute path": "rewrite home /tmp",
    "lists a path that leads up in the middle": "rewrite letter x/../y",
    "lists a path that leads to its older snapshots": "rewrite QQ/evil ../hourly",
    "stalls in its greeting": "stall 2",
    "stalls in its list": "stall 90",
    "stalls in a file": "stall 900000",
    "says one byte a while in its list": "drip 60 0.5",
    "says one byte a while in a file": "drip 900000 0.5",
    "dies before a word": "die 0",
    "dies in its list": "die 90",
    "dies in a file": "die 900000",
    "talks nonsense from the start": "garbage 0",
    "talks nonsense in its list": "garbage 90",
    "talks nonsense in a file": "garbage 900000",
}


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


@pytest.fixture
async def backup(place: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Backups]:
    """A host with one good snapshot, and a neighbour on the same drive."""
    monkeypatch.setattr(rsync, "IO_TIMEOUT_SECONDS", TIMEOUT_SECONDS)
    monkeypatch.setattr(transfer, "STALL_SECONDS", STALL_SECONDS)
    (place / "mode").write_text("honest")
    async with backups(place, forced_command=f"exec {sys.executable} {FAKE} {place}/mode") as made:
        home = made.source / "home"
        (home / "alice/dd").mkdir(parents=True)
        (home / "QQ").mkdir()
        (home / "QQ/evil").write_text("evil")
        (home / "alice/dd/letter").write_text("Dear reader")
        (made.source / "secret").mkdir()
        (made.source / "secret/key").write_text("of another user of that host")
        with made.store.folder(HostName("neighbour")) as neighbour:
            put_snapshot(neighbour, SLOT)
        yield made


def bystanders(backup: Backups, good: Taken) -> dict[str, Tree]:
    """What must stay as it is: the good snapshot, the neighbour, and whatever lies outside of the drive."""
    outside = [path for path in backup.place.iterdir() if path.name not in {"drive", "data", "sshd", "mode", "source"}]
    return {
        str(path): snapshot_of(path)
        for path in (good.path, backup.store.root / "neighbour", *(one for one in outside if one.is_dir()))
    }


async def attacked(backup: Backups, mode: str) -> RunFailed | None:
    """Let the host do its worst once; how the run ended, and nobody else is harmed."""
    good = await backup.take()
    before, held = bystanders(backup, good), files_under(backup.store.root)
    (backup.source / "home/large").write_bytes(os.urandom(LARGE_BYTES))
    (backup.place / "mode").write_text(mode.format(source=backup.source))
    error = None
    async with asyncio.timeout(BOUND_SECONDS):
        try:
            await backup.take()
        except RunFailed as failed:
            error = failed
    for path, tree in before.items():
        assert differences(tree, snapshot_of(Path(path))) == [], path
    if error is not None:
        assert files_under(backup.store.root) == held
        assert backup.link("current") == f"hourly/{good.completed.snapshot}"
    (backup.place / "mode").write_text("honest")
    again = await backup.take()
    assert differences(snapshot_of(backup.source / "home"), again.tree) == []
    return error


@pytest.mark.campaign
@pytest.mark.parametrize("attack", ATTACKS)
async def test_a_run_of_a_hostile_host_ends_soon_and_says_why(backup: Backups, attack: str) -> None:
    error = await attacked(backup, ATTACKS[attack])
    assert error is not None
    print(f"{attack}: {error.code}: {error.message} {error.hint}"[:400])  # noqa: T201
    assert error.code
    assert error.message.isprintable()


def make_endless(backup: Backups) -> None:
    """Folders that lead to themselves, for a sender that follows every link."""
    for name in ("a", "b", "c"):
        (backup.source / "home" / name).symlink_to(".")


async def fails(backup: Backups, mode: str) -> RunFailed:
    """Take a snapshot of an endless host; nothing of it is left."""
    good = await backup.take()
    before, held = bystanders(backup, good), files_under(backup.store.root)
    make_endless(backup)
    (backup.place / "mode").write_text(mode)
    async with asyncio.timeout(BOUND_SECONDS):
        with pytest.raises(RunFailed) as failed:
            await backup.take()
    assert files_under(backup.store.root) == held
    for path, tree in before.items():
        assert differences(tree, snapshot_of(Path(path))) == [], path
    return failed.value


@pytest.mark.campaign
async def test_a_list_without_end_ends_with_the_memory_it_may_take(
    backup: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    megabytes = 32
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    monkeypatch.setattr(transfer, "MEMORY_SHARE", megabytes * 1024**2 / whole)
    monkeypatch.setattr(transfer, "STALL_SECONDS", 1800.0)
    error = await fails(backup, "endless flat")
    print(error.code, error.message, error.hint)  # noqa: T201
    assert error.code in {"rsync_22", "rsync_12"}


@pytest.mark.campaign
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
async def test_folders_without_end_leave_room_for_others(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PROGRESS_SECONDS", 0.05)
    monkeypatch.setattr(room, "LAST_SHARE", 0.1)  # it is a small drive
    drive = place / "drive"
    (place / "mode").write_text("honest")
    command = f"exec {sys.executable} {FAKE} {place}/mode"
    options = ("-t", "tmpfs", "-o", "size=2G,nr_inodes=40k", "tmpfs")
    async with mounted(drive, *options), backups(place, drive=drive, forced_command=command) as backup:
        (backup.source / "home/letter").write_text("Dear reader")
        with backup.store.folder(HostName("neighbour")) as neighbour:
            put_snapshot(neighbour, SLOT)
        error = await fails(backup, "endless")
        print(error.code, error.message, error.hint)  # noqa: T201
        assert error.code == rsync.NO_ROOM
        assert "no other host could be backed up" in error.message
