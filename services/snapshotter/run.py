"""The story of one run: a fresh directory, a transfer, two lists, everything synced, a marker, a name.

The order is the promise (DESIGN section 6.2): whatever bears the marker restores byte for byte, wherever the power
was cut.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Final
from uuid import UUID

from services.snapshotter import lists, steps
from services.snapshotter.connection import Connection
from services.snapshotter.failure import FULL_ERRORS
from services.snapshotter.lists import Compared
from services.snapshotter.rsync import Ability
from services.snapshotter.transfer import Report, Transfer, Transferred, transfer
from shared.adapters import filesystem
from shared.adapters.clock import SystemClock
from shared.adapters.filesystem import FileLock, open_directory, shared_lock
from shared.adapters.markers import Marker, StoredSnapshot
from shared.adapters.milestones import Milestone, reached
from shared.adapters.store import HostFolder, Store
from shared.adapters.threads import in_thread, to_the_end
from shared.domain.errors import RunFailed
from shared.domain.events import Quality, SnapshotCompleted
from shared.domain.host_state import CLOCKS_DIFFER
from shared.domain.ids import event_id
from shared.domain.names import snapshot_name

RECENT: Final = 5
WRITE_BACK_SECONDS: Final = 2.0
"""After how long what has come is written to the drive; the kernel by itself would wait for half a minute."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of the snapshot job."""

    id: UUID
    slot: datetime
    store: Store
    folder: HostFolder
    lock: FileLock
    base: StoredSnapshot | None
    recent: Sequence[StoredSnapshot]


def before(snapshots: Sequence[StoredSnapshot], slot: datetime) -> list[StoredSnapshot]:
    """Those that a run of a slot goes on from: not what a clock that was wrong has dated after it."""
    return [snapshot for snapshot in snapshots if snapshot.marker.event.slot <= slot]


def choose_base(snapshots: Sequence[StoredSnapshot]) -> StoredSnapshot | None:
    """The newest snapshot that is not suspect. One with unreadable files serves as well: rsync compares each file."""
    usable = [snapshot for snapshot in snapshots if snapshot.quality is not Quality.SUSPECT]
    return usable[-1] if usable else None


async def take_snapshot(
    run: Run, connection: Connection, ability: Ability, clock: SystemClock, report: Report
) -> tuple[SnapshotCompleted, Compared]:
    """Make the snapshot of a run. Raises RunFailed, having removed what it wrote."""
    started = clock.monotonic()
    work = run.folder.path / f".partial-{run.id}-work"
    with ExitStack() as stack:
        partial = run.folder.make_partial(run.id)
        try:
            reached(Milestone.SNAPSHOT_PARTIAL_MADE)
            # Opened before the first byte is written: a write error is reported once for each descriptor.
            before_all_writes = stack.enter_context(open_directory(partial))
            if run.base is not None:
                stack.enter_context(being_read(run.folder, run.base))
            reached(Milestone.SNAPSHOT_BASE_HELD)
            work.mkdir(0o700)
            base_name = run.base.name if run.base else None
            wish = Transfer(connection, run.store, run.folder, partial, base_name, run.lock.descriptor, work / "raw")
            async with _written_back(partial, clock) as all_moved:
                moved = await transfer(wish, ability, clock, report)
                all_moved.set()
                reached(Milestone.SNAPSHOT_TRANSFERRED)
                run.store.check()
                compared = await _write_lists(run, partial, work)
                reached(Milestone.SNAPSHOT_LISTED)
            await in_thread(_sync, before_all_writes)
            reached(Milestone.SNAPSHOT_SYNCED)
            event = describe(run, moved, compared, clock.monotonic() - started)
            run.store.check()
            marker = Marker(event_id(run.id, steps.COMPLETED), event)
            await to_the_end(run.folder.complete, run.id, marker, clock.now() + CLOCKS_DIFFER)
            reached(Milestone.SNAPSHOT_COMPLETED)
        finally:
            await in_thread(run.folder.remove_partials)
    reached(Milestone.SNAPSHOT_TIDIED)
    return event, compared


@asynccontextmanager
async def _written_back(tree: Path, clock: SystemClock) -> AsyncIterator[asyncio.Event]:
    """Have the drive write what has come so far while more is coming, so that little is left for the sync at the end.

    That sync decides, on a descriptor of its own, which hears of every error that this one hears of. The event that
    is given means that all has come: then it is written once more, beside the lists.
    """
    all_moved = asyncio.Event()
    with open_directory(tree) as descriptor:
        writing = asyncio.create_task(_write_back(descriptor, all_moved, clock))
        try:
            yield all_moved
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)


async def _write_back(descriptor: int, all_moved: asyncio.Event, clock: SystemClock) -> None:
    pause_seconds = WRITE_BACK_SECONDS
    while not all_moved.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(pause_seconds):
                await all_moved.wait()
        started = clock.monotonic()
        with suppress(OSError):
            await in_thread(filesystem.sync_filesystem, descriptor)
        # A slow drive has its hands full: it is not asked again and again.
        pause_seconds = max(WRITE_BACK_SECONDS, 2 * (clock.monotonic() - started))


def being_read(folder: HostFolder, base: StoredSnapshot) -> ExitStack:
    """Keep a snapshot from being removed until the block ends. Raises RunFailed when that has begun."""
    stack = ExitStack()
    with stack:
        hourly = stack.enter_context(open_directory("hourly", at=folder.descriptor))
        tree = stack.enter_context(open_directory(base.name, at=hourly))
        try:
            stack.enter_context(shared_lock(tree))
        except BlockingIOError as error:
            raise RunFailed(f"Snapshot {base.name} is being removed.", code="base_busy", transient=True) from error
        return stack.pop_all()


async def _write_lists(run: Run, partial: Path, work: Path) -> Compared:
    base = run.folder.path / "hourly" / run.base.name if run.base else None
    await lists.sort_list(work / "raw", work / "sorted")
    (work / "raw").unlink()  # what is gone before the sync need not be written to the drive
    compared = await in_thread(lists.write_lists, partial, base, work / "sorted")
    (work / "sorted").unlink()
    return compared


def _sync(descriptor: int) -> None:
    try:
        filesystem.sync_filesystem(descriptor)
    except OSError as error:
        if error.errno in FULL_ERRORS:
            raise  # nothing is wrong with the drive, it is only full
        raise RunFailed(
            f"The drive could not keep what was written: {error.strerror}.",
            "Check the drive: dmesg tells why. It is not tried again on this descriptor, because it would lie.",
            code="sync",
        ) from error


def describe(run: Run, moved: Transferred, compared: Compared, duration_seconds: float) -> SnapshotCompleted:
    """The fact that this run's snapshot exists."""
    totals = moved.totals
    quality = Quality.DEGRADED if moved.verdict.degraded else Quality.COMPLETE
    warnings = moved.verdict.warnings
    if (shrunken := why_suspect(totals.files, totals.size_bytes, run.recent)) != "":
        quality, warnings = Quality.SUSPECT, (shrunken, *warnings)
    return SnapshotCompleted(
        run=run.id,
        slot=run.slot,
        snapshot=snapshot_name(run.slot),
        store=run.store.identity.name,
        quality=quality,
        base=run.base.name if run.base else None,
        files=totals.files,
        directories=totals.directories,
        symlinks=totals.symlinks,
        size_bytes=totals.size_bytes,
        transferred_files=totals.transferred_files,
        transferred_bytes=totals.transferred_bytes,
        shared_bytes=max(0, totals.size_bytes - totals.transferred_bytes),
        removed_files=compared.tally.removed,
        received_bytes=totals.received_bytes,
        duration_seconds=round(duration_seconds, 3),
        exit_code=moved.exit_code,
        changes_digest=compared.changes_digest,
        skipped_specials=totals.specials,
        warnings=warnings,
    )


def why_suspect(files: int, size_bytes: int, recent: Sequence[StoredSnapshot]) -> str:
    """Why a source looks empty or shrunken against its recent snapshots (DESIGN 6.3); nothing when it does not."""
    if files == 0:
        return "The source is empty: is the home directory mounted on the host?"
    if not recent:
        return ""
    usual_files = median(snapshot.marker.event.files for snapshot in recent)
    usual_bytes = median(snapshot.marker.event.size_bytes for snapshot in recent)
    if files < usual_files / 2:
        return f"The source has {files:,} files; recently it had {usual_files:,.0f}."
    if size_bytes < usual_bytes / 2:
        return f"The source has {size_bytes:,} bytes; recently it had {usual_bytes:,.0f}."
    return ""
