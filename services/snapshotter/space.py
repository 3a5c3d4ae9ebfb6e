"""What the next snapshot will probably take of the drive. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from services.snapshotter.output import Totals
from shared.domain.events import SnapshotCompleted
from shared.domain.room import Need

MARGIN: Final = 1.25
"""The next run may move so much more than the largest of those before."""
FOLDER_BYTES: Final = 4096
"""Folders cannot be shared between snapshots: each takes a block and an inode of its own, every hour."""
OWN_INODES: Final = 8
"""The run's own folders and lists."""
FLOOR_BYTES: Final = 64 * 1024**2
FLOOR_INODES: Final = 1000


def likely_need(recent: Sequence[SnapshotCompleted], *, shares: bool) -> Need:
    """Like the largest of the recent runs, oldest first, with a margin.

    `shares`: the next run has a base. Then the runs that had none tell how many folders there are and not how much
    is moved; a first snapshot would else keep its host from the second one. What is not known is a floor only.
    """
    alike = [run for run in recent if run.base is not None or not shares]
    if not recent:
        return Need(FLOOR_BYTES, FLOOR_INODES, "nothing is known of this host yet, so this is the least to begin with")
    folders = recent[-1].directories
    if not alike:
        size_bytes, inodes = _with_folders(FLOOR_BYTES, FLOOR_INODES, folders)
        return Need(size_bytes, inodes, f"its {folders:,} folders, and some more for what has changed")
    moved_bytes = round(max(run.transferred_bytes for run in alike) * MARGIN)
    files = round(max(run.transferred_files for run in alike) * MARGIN)
    size_bytes, inodes = _with_folders(moved_bytes, files, folders)
    return Need(size_bytes, inodes, f"like the largest of the last {len(alike):,} runs, and a quarter in reserve")


def counted_need(totals: Totals) -> Need:
    """What rsync counted when it only tried. Symbolic links that are shared already are counted, too."""
    size_bytes, inodes = _with_folders(
        totals.transferred_bytes, totals.transferred_files + totals.symlinks, totals.directories
    )
    return Need(size_bytes, inodes, "counted on the host just now")


def _with_folders(size_bytes: int, inodes: int, folders: int) -> tuple[int, int]:
    return size_bytes + folders * FOLDER_BYTES, inodes + folders + OWN_INODES
