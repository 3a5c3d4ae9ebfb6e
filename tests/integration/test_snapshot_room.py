"""A run that would not fit is refused before anything is moved; one that fills the drive leaves no trace on it.

The handler is the real one, with the real log and bus, and the drive is a small ext4 of its own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from services.snapshotter.failure import FULL_ERRORS
from services.snapshotter.handler import Snapshotter
from services.snapshotter.lists import sort_list
from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import Bus
from shared.adapters.postgres import EventLog
from shared.domain.events import (
    AnyEvent,
    ArchiveCompleted,
    DryRunCompleted,
    NewEvent,
    SnapshotCompleted,
    SnapshotFailed,
    SnapshotStarted,
)
from shared.domain.ids import derived_id
from shared.domain.messages import Tick
from shared.domain.names import host_stream
from shared.runtime.cancel import Cancels
from shared.runtime.host_log import HostLog
from shared.runtime.outbox import Outbox
from shared.runtime.rejected import Rejections
from shared.runtime.worker import Done
from tests.support.backups import Backups, backups, files_under, mounted, must
from tests.support.builders import a_tick, build
from tests.support.places import new_place
from tests.support.trees import differences, snapshot_of

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts"),
    pytest.mark.skipif(shutil.which("mkfs.ext4") is None, reason="mkfs.ext4 is not installed"),
]

MIB = 1024**2
GIB = 1024**3


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


@dataclass
class Worker:
    """A snapshotter on a small drive, and what the log heard of it."""

    backup: Backups
    handler: Snapshotter
    events: EventLog
    ticks: int = 0

    def write(self, name: str, size_bytes: int) -> Path:
        """Put a file on the host."""
        path = self.backup.source / "home" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size_bytes))
        return path

    def leave_free(self, size_bytes: int) -> Path:
        """Fill the drive with something of somebody else's, until so much is left."""
        filler = self.backup.store.root / "filler"
        descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC)
        try:
            free_bytes = self.backup.store.room().free_bytes + os.fstat(descriptor).st_blocks * 512
            os.posix_fallocate(descriptor, 0, free_bytes - size_bytes)
        finally:
            os.close(descriptor)
        return filler

    async def run(self, *, dry_run: bool = False) -> list[AnyEvent]:
        """Work off the tick of a new slot; returns what that added to the log."""
        known = len(await self.events.read_stream(host_stream(self.backup.host.name)))
        self.ticks += 1
        slot = SystemClock().now().replace(microsecond=0) + timedelta(seconds=self.ticks)
        tick: Tick = a_tick(self.backup.host.name, slot, dry_run=dry_run)
        assert await self.handler.handle(tick) == Done()
        return [event.event for event in (await self.events.read_stream(host_stream(self.backup.host.name)))[known:]]

    async def failed(self) -> SnapshotFailed:
        """Run, and fail for good: the claim and the failure are told, and not one snapshot has changed."""
        before, names = snapshot_of(self.backup.folder / "hourly"), self.backup.snapshots()
        started, failed = await self.run()
        assert isinstance(started, SnapshotStarted)
        assert isinstance(failed, SnapshotFailed)
        assert failed.final
        assert failed.run == started.run
        assert differences(before, snapshot_of(self.backup.folder / "hourly")) == []
        assert self.backup.snapshots() == names
        assert self.backup.leftovers() == []
        return failed

    async def completed(self) -> SnapshotCompleted:
        """Run, and succeed."""
        done = (await self.run())[1]
        assert isinstance(done, SnapshotCompleted), done
        return done


@asynccontextmanager
async def worker(
    place: Path, log: EventLog, bus: Bus, *, size: str = "200M", inodes: int = 4096, **host: object
) -> AsyncIterator[Worker]:
    image = place / "image"
    await must("truncate", "-s", size, str(image))
    await must("mkfs.ext4", "-q", "-m", "0", "-N", str(inodes), str(image))
    async with (
        mounted(place / "drive", "-o", "loop", str(image)) as drive,
        backups(place, drive=drive, transport="local") as b,
    ):
        b.host = b.with_host(**host)
        b.store.folder(b.host.name).__exit__()
        settings = msgspec.structs.replace(b.settings, hosts=(b.host,))
        host_log = HostLog(log, Outbox(b.store, log))
        cancels = Cancels(bus, Rejections(log))
        yield Worker(b, Snapshotter(settings, b.store, host_log, cancels, b.ability, SystemClock(), "worker-1"), log)


async def test_a_run_that_would_not_fit_is_refused_before_anything_is_moved(
    place: Path, log: EventLog, bus: Bus
) -> None:
    async with worker(place, log, bus) as at_work:
        at_work.write("small", 1000)
        await at_work.completed()
        large = at_work.write("large", 12 * MIB)
        await at_work.completed()
        filler = at_work.leave_free(12 * MIB)
        large.write_bytes(os.urandom(12 * MIB))
        failed = await at_work.failed()
        assert failed.code == "no_room"
        assert "12.0 MiB free" in failed.message
        assert "12.0 MiB are needed: counted on the host just now" in failed.message
        assert "Nothing was deleted to make room" in failed.hint
        assert filler.exists()

        # The largest run of before says that it does not fit either; but there is little to move now, and it does.
        large.unlink()
        at_work.write("small", 2000)
        assert (await at_work.completed()).transferred_files == 1


async def test_what_cannot_be_counted_goes_by_the_runs_before(place: Path, log: EventLog, bus: Bus) -> None:
    async with worker(place, log, bus) as at_work:
        at_work.write("small", 1000)
        await at_work.completed()
        at_work.write("large", 12 * MIB)
        await at_work.completed()
        at_work.leave_free(12 * MIB)
        at_work.backup.source.joinpath("home").rename(at_work.backup.source / "away")
        failed = await at_work.failed()
        assert failed.code == "no_room"
        assert "15.0 MiB are needed: like the largest of the last 1 runs" in failed.message


async def test_inodes_run_out_before_bytes_and_are_asked_for_too(place: Path, log: EventLog, bus: Bus) -> None:
    async with worker(place, log, bus, inodes=2048) as at_work:
        for number in range(900):
            (at_work.backup.source / f"home/folder-{number}").mkdir()
        at_work.write("file", 10)
        await at_work.completed()
        at_work.write("file", 20)
        await at_work.completed()
        failed = await at_work.failed()
        assert failed.code == "no_room"
        assert "free inodes" in failed.message
        assert "909 are needed" in failed.message  # 900 folders, the one above them, and the run's own


async def test_a_first_snapshot_asks_for_a_little_only(place: Path, log: EventLog, bus: Bus) -> None:
    async with worker(place, log, bus, inodes=256) as at_work:
        at_work.write("file", 10)
        for number in range(300):
            (at_work.backup.source / f"home/{number}").mkdir()
        failed = await at_work.failed()
        assert failed.code == "no_room"
        assert "counted on the host just now" in failed.message
        for number in range(300):
            (at_work.backup.source / f"home/{number}").rmdir()
        await at_work.completed()  # less than the floor is free, but what there is fits


@pytest.mark.parametrize("what", ["bytes", "inodes"])
async def test_a_drive_that_fills_up_in_the_middle_leaves_no_half_snapshot_and_takes_nothing_away(
    place: Path, log: EventLog, bus: Bus, what: str
) -> None:
    async with worker(place, log, bus, inodes=2048, size="120M") as at_work:
        good = place / "drive/kept"
        good.write_text("somebody's file")
        if what == "bytes":
            at_work.write("large", 130 * MIB)
        for number in range(10 if what == "bytes" else 2500):
            at_work.write(f"file-{number}", 10)
        room = at_work.backup.store.room()
        failed = await at_work.failed()
        assert failed.code == "no_room"
        assert "the backup drive is full" in failed.message
        assert "What this run had written is removed; now" in failed.message
        assert "Nothing was deleted to make room" in failed.hint
        assert good.read_text() == "somebody's file"
        assert at_work.backup.store.room().free_bytes > room.free_bytes - MIB
        assert at_work.backup.snapshots() == []
        assert at_work.backup.leftovers() == []


async def test_a_list_that_does_not_fit_is_a_full_drive_too(tmp_path: Path) -> None:
    (tmp_path / "raw").write_text("b\na\n")
    with pytest.raises(OSError, match="No space left") as full:
        await sort_list(tmp_path / "raw", Path("/dev/full"))
    assert full.value.errno in FULL_ERRORS


async def test_a_host_beyond_its_quota_is_refused_with_the_numbers(place: Path, log: EventLog, bus: Bus) -> None:
    async with worker(place, log, bus, quota_gib=1) as at_work:
        at_work.write("file", 1000)
        await at_work.completed()
        archive = NewEvent(derived_id("archive"), build(ArchiveCompleted, size_bytes=2 * GIB))
        await log.append(host_stream(at_work.backup.host.name), None, [archive])
        failed = await at_work.failed()
        assert failed.code == "quota"
        assert "uses 2.0 GiB of its quota of 1.0 GiB" in failed.message
        assert "quota_gib" in failed.hint


async def test_a_dry_run_says_so_before_and_changes_nothing(place: Path, log: EventLog, bus: Bus) -> None:
    async with worker(place, log, bus, quota_gib=1) as at_work:
        at_work.write("small", 1000)
        await at_work.completed()
        at_work.write("large", 12 * MIB)
        at_work.leave_free(12 * MIB)
        before, names = snapshot_of(at_work.backup.store.root), files_under(at_work.backup.store.root)
        (found,) = await at_work.run(dry_run=True)
        assert isinstance(found, DryRunCompleted)
        assert not found.ok
        assert found.findings[0].startswith("The drive has 12.0 MiB free")
        assert any("1 of 2 files, 12.0 MiB of 12.0 MiB" in sentence for sentence in found.findings)
        assert "The host uses 1,000 bytes of its quota of 1.0 GiB." in found.findings
        assert differences(before, snapshot_of(at_work.backup.store.root)) == []
        assert files_under(at_work.backup.store.root) == names
