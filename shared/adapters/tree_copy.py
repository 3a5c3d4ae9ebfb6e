"""Copies trees to another drive, keeping which files are one and the same among all of them.

Hundreds of snapshots share most of their files. Which file of the target an inode of the source became is therefore
kept in a table on the target, not in memory, together with what has been copied to its end: so memory stays flat
however much there is, and a copy that was stopped goes on where it was.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from shared.adapters.beneath import Descent, Opener
from shared.adapters.tree_linker import copy_attributes, copy_xattrs

CHUNK_BYTES: Final = 1024 * 1024
LONGEST_PATH_BYTES: Final = 4000
"""What the kernel takes in one piece; a file with a longer path is copied, not linked."""

UNLINKABLE: Final = frozenset({errno.EMLINK, errno.ENOENT, errno.ENAMETOOLONG, errno.EPERM, errno.EOPNOTSUPP})
"""Why a link is not made: as many as a file may have, gone since, or unknown to this file system."""

_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS files (inode INTEGER PRIMARY KEY, bytes INTEGER, mtime INTEGER, path BLOB);
    CREATE TABLE IF NOT EXISTS done (path BLOB PRIMARY KEY) WITHOUT ROWID;"""


class Known:
    """Which file of the target an inode of the source became, and which entries were copied to their end."""

    def __init__(self, path: Path) -> None:
        # What is lost with it is only work: everything is compared in the end, whatever the table says.
        self._table = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._table.executescript(f"PRAGMA cache_size = -32768; PRAGMA synchronous = NORMAL; {_SCHEMA} BEGIN;")

    def close(self) -> None:
        """Forget what belongs to an entry that was not copied to its end."""
        self._table.rollback()
        self._table.close()

    def done(self) -> set[bytes]:
        """The entries that were copied to their end."""
        return {path for (path,) in self._table.execute("SELECT path FROM done")}

    def finish(self, path: bytes) -> None:
        """Remember that this entry was copied to its end."""
        self._table.execute("INSERT OR REPLACE INTO done VALUES (?)", (path,))
        self._table.execute("COMMIT")
        self._table.execute("BEGIN")

    def forget(self, path: bytes) -> None:
        """This entry is not in the target any more."""
        self._table.execute("DELETE FROM done WHERE path = ?", (path,))
        self._table.execute("COMMIT")
        self._table.execute("BEGIN")

    def find(self, file: os.stat_result) -> bytes | None:
        """Where this file is in the target. An inode that was given to another file since is told by size and time."""
        found = self._table.execute(
            "SELECT path FROM files WHERE inode = ? AND bytes = ? AND mtime = ?",
            (file.st_ino, file.st_size, file.st_mtime_ns),
        ).fetchone()
        return None if found is None else bytes(found[0])

    def note(self, file: os.stat_result, path: bytes) -> None:
        """This file is there in the target."""
        values = (file.st_ino, file.st_size, file.st_mtime_ns, path)
        self._table.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", values)


class Copier:
    """Copies entries from below one open directory to the same path below another, on whatever file systems.

    `look` is called for every entry with the bytes that it moved; what it raises stops the copy.
    """

    def __init__(self, source: int, target: int, known: Known, look: Callable[[int], None]) -> None:
        self._known = known
        self._look = look
        self._target = target
        self._device = os.fstat(source).st_dev
        self._sources = Descent(source, Opener(quiet=True))
        self._targets = Descent(target, Opener())

    def close(self) -> None:
        """Give up what is kept open."""
        self._sources.close()
        self._targets.close()

    def copy(self, path: str) -> None:
        """Copy an entry with all that is in it; its folder is there. Raises OSError."""
        parent, _, name = path.rpartition("/")
        pending = self._entries(parent, [name])
        while pending:
            folder = pending.pop()
            pending += self._folder(folder)

    def _folder(self, path: str) -> list[str]:
        descriptor = self._sources.open(path)
        try:
            below = self._entries(path, os.listdir(descriptor))
            filled = self._targets.open(path)
            try:
                copy_attributes(descriptor, filled)
            finally:
                os.close(filled)
            return below
        finally:
            os.close(descriptor)

    def _entries(self, path: str, names: list[str]) -> list[str]:
        """Copy these entries of a folder; returns the folders among them, which are empty yet."""
        below = []
        source = self._sources.open(path)
        try:
            target = self._targets.open(path)
            try:
                for name in names:
                    entry = f"{path}/{name}" if path else name
                    if self._entry(name, entry, source, target):
                        below.append(entry)
            finally:
                os.close(target)
        finally:
            os.close(source)
        return below

    def _entry(self, name: str, path: str, source: int, target: int) -> bool:
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if status.st_dev != self._device:
            raise OSError(errno.EXDEV, "another file system is mounted here", path)
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(name, 0o700, dir_fd=target)
            self._look(0)
            return True
        moved = 0
        if status.st_nlink == 1 or not self._linked(status, name, target):
            moved = self._copied(status, name, source, target)
            where = os.fsencode(path)
            if status.st_nlink > 1 and len(where) <= LONGEST_PATH_BYTES:
                self._known.note(status, where)
        self._look(moved)
        return False

    def _linked(self, status: os.stat_result, name: str, target: int) -> bool:
        there = self._known.find(status)
        if there is None:
            return False
        try:
            os.link(there, os.fsencode(name), src_dir_fd=self._target, dst_dir_fd=target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in UNLINKABLE:
                raise
            return False
        return True

    def _copied(self, status: os.stat_result, name: str, source: int, target: int) -> int:
        if stat.S_ISREG(status.st_mode):
            return _copy_file(name, source, target)
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
        if not stat.S_ISLNK(status.st_mode):
            os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=target)  # the owner comes first: it takes bits away
        os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns), dir_fd=target, follow_symlinks=False)
        return 0


def _copy_file(name: str, source: int, target: int) -> int:
    original = Opener(quiet=True, flags=os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC).open(name, source)
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        made = os.open(name, flags, 0o600, dir_fd=target)
        try:
            status = os.fstat(original)
            moved = _copy_content(original, made, status.st_size)
            os.fchown(made, status.st_uid, status.st_gid)
            copy_xattrs(original, made)  # after the owner, who takes capabilities away; before the mode and the times
            os.fchmod(made, stat.S_IMODE(status.st_mode))
            os.utime(made, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(made)
    finally:
        os.close(original)
    return moved


def _copy_content(source: int, target: int, size_bytes: int) -> int:
    """Copy what is there and leave the holes; returns the bytes moved. Never by sharing blocks: it is a second copy."""
    at = moved = 0
    while at < size_bytes:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # nothing but a hole is left
        end = os.lseek(source, at, os.SEEK_HOLE)
        while at < end and (chunk := os.pread(source, min(CHUNK_BYTES, end - at), at)):
            view = memoryview(chunk)
            while view:
                written = os.pwrite(target, view, at)
                at, moved, view = at + written, moved + written, view[written:]
        if at < end:
            raise OSError(errno.EIO, "it became shorter while it was read")
    os.ftruncate(target, size_bytes)
    return moved
