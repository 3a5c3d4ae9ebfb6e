"""Compares trees on two drives entry by entry: names, kinds, owners, modes, times, attributes, and every byte.

A file that many trees share is read once. Which file of the one drive is which of the other is kept in a table on the
drive, so memory stays flat.
"""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from shared.adapters.beneath import Descent, Opener
from shared.adapters.tree_linker import xattrs_of
from shared.domain.errors import BackupManagerError
from shared.domain.wording import printable

CHUNK_BYTES: Final = 1024 * 1024
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class CopyDiffers(BackupManagerError):
    """A copy is not what it is a copy of."""


class Comparison:
    """Compares what lies below one open directory with what lies below another.

    `look` is called for every entry with the bytes that were read; what it raises stops the comparison.
    """

    def __init__(self, original: int, copy: int, table: Path, look: Callable[[int], None]) -> None:
        self._look = look
        self._originals = Descent(original, Opener(quiet=True))
        self._copies = Descent(copy, Opener(quiet=True))
        table.unlink(missing_ok=True)  # what was compared before says nothing about now
        self._seen = sqlite3.connect(table, isolation_level=None, check_same_thread=False)
        self._seen.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -32768;"
            "CREATE TABLE pairs (copy INTEGER PRIMARY KEY, original INTEGER); BEGIN;"
        )

    def close(self) -> None:
        """Give up what is kept open."""
        self._seen.close()
        self._originals.close()
        self._copies.close()

    def compare(self, folder: str) -> int:
        """Compare a folder with all that is in it; returns the number of entries. Raises CopyDiffers and OSError."""
        pending, entries = [folder], 0
        while pending:
            at = pending.pop()
            original = self._originals.open(at)
            try:
                copy = self._copies.open(at)
                try:
                    names = _same_names(at, original, copy)
                    entries += len(names)
                    pending += [f"{at}/{name}" for name in names if self._entry(f"{at}/{name}", name, original, copy)]
                finally:
                    os.close(copy)
            finally:
                os.close(original)
        return entries

    def _entry(self, path: str, name: str, original: int, copy: int) -> bool:
        """Compare one entry; True for a folder, of which this says nothing about what is in it."""
        here = os.stat(name, dir_fd=original, follow_symlinks=False)
        there = os.stat(name, dir_fd=copy, follow_symlinks=False)
        for what, one, other in zip(_FACTS, _facts(here), _facts(there), strict=True):
            if one != other:
                raise _differs(path, f"{what} {other}, not {one}")
        read = 0
        if stat.S_ISLNK(here.st_mode):
            if os.readlink(name, dir_fd=original) != os.readlink(name, dir_fd=copy):
                raise _differs(path, "another target")
        elif stat.S_ISREG(here.st_mode) and not self._compared(here, there, path):
            read = _compare_files(path, name, original, copy)
        elif stat.S_ISDIR(here.st_mode):
            _compare_opened(path, self._originals.open(path), self._copies.open(path), content=False)
        self._look(read)
        return stat.S_ISDIR(here.st_mode)

    def _compared(self, here: os.stat_result, there: os.stat_result, path: str) -> bool:
        if there.st_nlink == 1:
            return False
        found = self._seen.execute("SELECT original FROM pairs WHERE copy = ?", (there.st_ino,)).fetchone()
        if found is None:
            self._seen.execute("INSERT INTO pairs VALUES (?, ?)", (there.st_ino, here.st_ino))
            return False
        if found[0] != here.st_ino:
            raise _differs(path, "shared with a file that is another one")
        return True


_FACTS: Final = ("the kind and mode", "the owner", "the group", "the size", "the time", "the device")


def _facts(status: os.stat_result) -> tuple[object, ...]:
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    return oct(status.st_mode), status.st_uid, status.st_gid, size, status.st_mtime_ns, status.st_rdev


def _same_names(path: str, original: int, copy: int) -> list[str]:
    names, copied = set(os.listdir(original)), set(os.listdir(copy))
    for name in sorted(names ^ copied):
        raise _differs(f"{path}/{name}", "missing" if name in names else "there, but not in the original")
    return sorted(names)


def _compare_files(path: str, name: str, original: int, copy: int) -> int:
    opener = Opener(quiet=True, flags=_READ)
    return _compare_opened(path, opener.open(name, original), opener.open(name, copy), content=True)


def _compare_opened(path: str, here: int, there: int, *, content: bool) -> int:
    """Compare attributes and bytes, and close both; returns how many bytes were read."""
    try:
        if xattrs_of(here) != xattrs_of(there):
            raise _differs(path, "other extended attributes")
        return _compare_content(path, here, there) if content else 0
    finally:
        os.close(here)
        os.close(there)


def _compare_content(path: str, here: int, there: int) -> int:
    # What is still in memory proves nothing about the drive.
    os.posix_fadvise(there, 0, 0, os.POSIX_FADV_DONTNEED)
    at = 0
    while True:
        one, other = os.pread(here, CHUNK_BYTES, at), os.pread(there, CHUNK_BYTES, at)
        if one != other:
            raise _differs(path, "other content")
        if not one:
            return at
        at += len(one)


def _differs(path: str, how: str) -> CopyDiffers:
    return CopyDiffers(
        f"The copy of ‘{printable(path)}’ is not what it should be: {how}.",
        "Check the new drive: dmesg tells why. The copies are made anew when this is run again.",
    )
