"""What ends a run, in the words of this product."""

from __future__ import annotations

import errno
import os
from typing import Final

from services.snapshotter.rsync import NO_ROOM
from shared.domain.errors import BackupManagerError, RunFailed
from shared.domain.room import Room, size

FULL_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
FREE_SOME: Final = (
    "Free bytes or inodes on the drive, or thin out sooner: see the retention settings. Nothing was deleted to make "
    "room."
)


def as_failure(error: BackupManagerError | OSError, room: Room | None) -> RunFailed:
    """The error of a run that has removed what it wrote. `room` is what the drive has now; None: that is unknown."""
    if isinstance(error, RunFailed):
        return _filled_up(error.message, room) if error.code == NO_ROOM else error
    if isinstance(error, BackupManagerError):
        return RunFailed(error.message, error.hint, code=type(error).__name__)
    if error.errno in FULL_ERRORS:
        return _filled_up(f"The drive failed: {os.strerror(error.errno or 0)}.", room)
    return RunFailed(f"The drive failed: {error}.", "Check the drive: dmesg tells why.", code="drive")


def _filled_up(message: str, room: Room | None) -> RunFailed:
    if room is not None:
        inodes = "" if room.free_inodes is None else f" and {room.free_inodes:,} inodes"
        message = f"{message} What this run had written is removed; now {size(room.free_bytes)}{inodes} are free."
    return RunFailed(message, FREE_SOME, code=NO_ROOM)
