"""What ends a restore, in the words of this product."""

from __future__ import annotations

import errno
import os
from typing import Final

from services.restorer.rsync import NO_ROOM
from shared.domain.errors import BackupManagerError, HostUnreachable, RunFailed

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def as_failure(error: BackupManagerError | OSError) -> RunFailed:
    """The error of a run in the words of this product."""
    if isinstance(error, RunFailed):
        return error
    if isinstance(error, HostUnreachable):
        return RunFailed(error.message, error.hint or "Is the host on?", code="offline", transient=True)
    if isinstance(error, BackupManagerError):
        return RunFailed(error.message, error.hint, code=type(error).__name__)
    if error.errno in _FULL:
        return RunFailed("There is no room left where it is restored to.", "Free some, or restore less.", code=NO_ROOM)
    return RunFailed(
        f"A drive failed: {os.strerror(error.errno or 0)} ({error.filename!r}).",
        "Check both drives: dmesg tells why.",
        code="drive",
    )
