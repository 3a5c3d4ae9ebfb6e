"""The story of one golden copy: every file of a snapshot linked once more, under the name of its month."""

from __future__ import annotations

import os

from services.archiver import steps
from services.archiver.archive import Work
from shared.adapters import filesystem
from shared.adapters.clock import SystemClock
from shared.adapters.filesystem import open_directory
from shared.adapters.markers import MARKER_FILE
from shared.adapters.milestones import Milestone, reached
from shared.adapters.restore_points import UNFINISHED, GoldenRecord, complete_golden
from shared.adapters.threads import in_thread, to_the_end
from shared.adapters.trees import Linked, link_tree
from shared.domain.errors import RunFailed
from shared.domain.events import GoldenCompleted, SnapshotCompleted
from shared.domain.ids import event_id

OWN_RECORDS = 2
"""The lists of a snapshot, `.files.zst` and `.changes.jsonl.zst`, come along and are counted as files."""


async def make_golden(work: Work, name: str, clock: SystemClock) -> GoldenCompleted:
    """Make the golden copy of a month. Raises RunFailed and OSError, having removed what it wrote."""
    started = clock.monotonic()
    partial = f"{UNFINISHED}{work.run}"
    with open_directory("monthly", at=work.folder.descriptor) as place:
        os.mkdir(partial, 0o700, dir_fd=place)
        try:
            reached(Milestone.GOLDEN_BEGUN)
            with open_directory(partial, at=place) as target:
                linked = await link_tree(
                    work.tree, target, skip=frozenset({MARKER_FILE.encode()}), pass_fds=(work.lock.descriptor,)
                )
                _check(linked, work.snapshot.marker.event)
                reached(Milestone.GOLDEN_LINKED)
                await in_thread(filesystem.sync_filesystem, target)
            reached(Milestone.GOLDEN_SYNCED)
            work.store.check()
            event = _describe(work, name, clock.monotonic() - started)
            record = GoldenRecord(event_id(work.run, steps.GOLDEN_COMPLETED), event)
            await to_the_end(complete_golden, work.folder, partial, record)
            reached(Milestone.GOLDEN_COMPLETED)
        finally:
            if partial in os.listdir(place):
                await in_thread(filesystem.remove_entry, partial, at=place)
    return event


def _check(linked: Linked, snapshot: SnapshotCompleted) -> None:
    files = linked.files + linked.others - OWN_RECORDS
    if (files, linked.symlinks) != (snapshot.files, snapshot.symlinks):
        raise RunFailed(
            f"The snapshot has {files:,} files and {linked.symlinks:,} links; its record says {snapshot.files:,} and "
            f"{snapshot.symlinks:,}.",
            "Has somebody changed it? `backup-manager audit` compares the drive with the log.",
            code="members",
        )


def _describe(work: Work, name: str, duration_seconds: float) -> GoldenCompleted:
    source = work.snapshot.marker.event
    return GoldenCompleted(
        run=work.run,
        slot=source.slot,
        golden=name,
        snapshot=work.snapshot.name,
        store=work.store.identity.name,
        quality=source.quality,
        files=source.files,
        directories=source.directories,
        symlinks=source.symlinks,
        size_bytes=source.size_bytes,
        duration_seconds=round(duration_seconds, 3),
    )
