"""The story of one archive: packed under a temporary name, read back, then given its record and its name."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from services.archiver import steps
from services.archiver.pack import Compression, Packing, pack, read_back
from shared.adapters import filesystem
from shared.adapters.clock import SystemClock
from shared.adapters.filesystem import FileLock, open_directory
from shared.adapters.markers import StoredSnapshot
from shared.adapters.milestones import Milestone, reached
from shared.adapters.restore_points import UNFINISHED, ArchiveRecord, complete_archive
from shared.adapters.store import HostFolder, Store
from shared.adapters.threads import to_the_end
from shared.domain.events import ArchiveCompleted
from shared.domain.ids import event_id
from shared.domain.names import archive_name

Report = Callable[[Packing], Awaitable[None]]

_NEW_FILE: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Work:
    """One run of the heavy pipeline: the snapshot it works on, whose directory `tree` is held open and locked."""

    run: UUID
    slot: datetime
    store: Store
    folder: HostFolder
    lock: FileLock
    snapshot: StoredSnapshot
    tree: int


async def make_archive(work: Work, compression: Compression, clock: SystemClock, report: Report) -> ArchiveCompleted:
    """Make the archive of a snapshot. Raises RunFailed, having removed what it wrote."""
    started = clock.monotonic()
    name = archive_name(work.folder.host, work.snapshot.name, compression.format)
    partial = f"{UNFINISHED}{work.run}.{compression.format}"
    with open_directory("archives", at=work.folder.descriptor) as place, _new_file(partial, at=place) as target:
        reached(Milestone.ARCHIVE_BEGUN)
        packed = await pack(work.tree, target, compression=compression, pass_fds=(work.lock.descriptor,), report=report)
        reached(Milestone.ARCHIVE_PACKED)
        await read_back(target, packed, compression, pass_fds=(work.lock.descriptor,))
        reached(Milestone.ARCHIVE_READ_BACK)
        work.store.check()
        event = ArchiveCompleted(
            run=work.run,
            slot=work.slot,
            archive=name,
            snapshot=work.snapshot.name,
            store=work.store.identity.name,
            members=packed.members,
            source_bytes=packed.source_bytes,
            size_bytes=packed.size_bytes,
            sha256=packed.sha256,
            duration_seconds=round(clock.monotonic() - started, 3),
            warnings=packed.warnings,
        )
        record = ArchiveRecord(event_id(work.run, steps.COMPLETED), event)
        await to_the_end(complete_archive, work.folder, partial, record)
    return event


@contextmanager
def _new_file(name: str, *, at: int) -> Iterator[int]:
    """A file for the length of the block; whatever still has this name at its end is removed."""
    descriptor = os.open(name, _NEW_FILE, 0o644, dir_fd=at)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
        if name in os.listdir(at):
            filesystem.remove_entry(name, at=at)
