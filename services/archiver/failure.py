"""What ends a run, in the words of this product."""

from __future__ import annotations

import os

from shared.domain.errors import BackupManagerError, RunFailed


def as_failure(error: BackupManagerError | OSError) -> RunFailed:
    """The error of a run in the words of this product."""
    if isinstance(error, RunFailed):
        return error
    if isinstance(error, BackupManagerError):
        return RunFailed(error.message, error.hint, code=type(error).__name__)
    return RunFailed(
        f"The drive failed: {os.strerror(error.errno or 0)} ({error.filename!r}).",
        "Check the drive: dmesg tells why.",
        code="drive",
    )
