"""The disk: durable writes, locks, and walking that follows nothing and crosses nothing.

Everything works on directory descriptors, so that a path that is swapped underneath cannot lead elsewhere.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from shared.adapters.beneath import Opener, make_searchable
from shared.domain.errors import HostBusy

RENAME_NOREPLACE: Final = 1
MAX_OPEN_DEPTH: Final = 64
"""Deeper directories are moved up before they are removed, so that no tree needs more descriptors than this."""

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def open_directory(path: str | bytes | os.PathLike[str], *, at: int | None = None) -> Iterator[int]:
    """A descriptor of a directory that is not a symbolic link. Raises OSError."""
    descriptor = os.open(path, _DIRECTORY, dir_fd=at)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def make_directory(name: str, *, at: int, mode: int = 0o755) -> None:
    """Create a directory unless it is there, and make the creation durable."""
    try:
        os.mkdir(name, mode, dir_fd=at)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
            raise
    else:
        os.fsync(at)


def write_new_file(name: str, content: bytes, *, at: int, mode: int = 0o644) -> None:
    """Create a file that must not exist yet, and make it durable. Raises FileExistsError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, mode, dir_fd=at)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.fsync(at)


def read_small_file(name: str, *, at: int, limit_bytes: int) -> bytes:
    """The content of a regular file. Raises OSError, also when it is a link, no file, or larger than the limit."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", name)
        if status.st_size > limit_bytes:
            raise OSError(errno.EFBIG, "larger than expected", name)
        return os.read(descriptor, limit_bytes)
    finally:
        os.close(descriptor)


def replace_symlink(name: str, target: str, *, at: int) -> None:
    """Point a symbolic link elsewhere: at every moment it is the old one or the new one."""
    temporary = f".{name}.new"
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=at)
    os.symlink(target, temporary, dir_fd=at)
    os.rename(temporary, name, src_dir_fd=at, dst_dir_fd=at)
    os.fsync(at)


def rename_new(source: str, target: str, *, source_at: int, target_at: int) -> None:
    """Rename to a name that must be free, and make it durable. Raises FileExistsError and other OSErrors."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.renameat2(source_at, os.fsencode(source), target_at, os.fsencode(target), RENAME_NOREPLACE)
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)
    _sync_move(source_at, target_at)


def rename_over(source: str, target: str, *, source_at: int, target_at: int) -> None:
    """Rename to a name that may be taken, and make it durable. Raises OSError."""
    os.rename(source, target, src_dir_fd=source_at, dst_dir_fd=target_at)
    _sync_move(source_at, target_at)


def _sync_move(source_at: int, target_at: int) -> None:
    """Write both directories of a move to the drive.

    The one that it left goes first: then btrfs writes both at once. The other way round, a power cut between them
    leaves a file under both names there. ext4 and xfs write both at once in any order.
    """
    os.fsync(source_at)
    os.fsync(target_at)


def sync_filesystem(descriptor: int) -> None:
    """Write everything of the descriptor's file system to the drive. Raises OSError.

    A write error is reported once for each descriptor: open it before the writes, and never try again after one.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def supports_user_xattrs(descriptor: int) -> bool:
    """Whether files here can carry `user.` attributes. Nothing is written."""
    try:
        os.getxattr(f"/proc/self/fd/{descriptor}", "user.backup-manager.probe")
    except OSError as error:
        return error.errno == errno.ENODATA
    return True


class FileLock:
    """A lock that lives as long as any process holds the descriptor, so also in a child that outlives its parent."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    @classmethod
    def acquire(cls, name: str, *, at: int, wanted_by: str) -> FileLock:
        """Take the lock file. Raises HostBusy when somebody has it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=at)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise HostBusy(f"{wanted_by} is being worked on by another process.") from error
        return cls(descriptor)

    def release(self) -> None:
        """Give it up in this process."""
        os.close(self.descriptor)


@contextmanager
def shared_lock(directory: int) -> Iterator[None]:
    """Mark a restore point as being read, by a shared lock on its directory. Raises BlockingIOError."""
    fcntl.flock(directory, fcntl.LOCK_SH | fcntl.LOCK_NB)
    try:
        yield
    finally:
        fcntl.flock(directory, fcntl.LOCK_UN)


def remove_tree(name: str, *, at: int) -> int:
    """Remove a directory with all that is in it; returns how many entries went. Raises OSError.

    Symbolic links are removed, not followed. Another file system mounted inside stops it with EXDEV.
    """
    make_searchable(name, at=at)
    with open_directory(name, at=at) as top:
        removed = _empty(top, top, depth=0)
    os.rmdir(name, dir_fd=at)
    return removed + 1


def remove_entry(name: str, *, at: int) -> None:
    """Remove a file, a link, or a directory with all that is in it. Raises OSError."""
    if stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
        remove_tree(name, at=at)
    else:
        os.unlink(name, dir_fd=at)


def _empty(directory: int, top: int, *, depth: int) -> int:
    removed = 0
    again = True
    while again:
        again = False
        with os.scandir(directory) as entries:
            listed = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for entry_name, is_directory in listed:
            if not is_directory:
                os.unlink(entry_name, dir_fd=directory)
                removed += 1
            elif depth >= MAX_OPEN_DEPTH:
                _move_up(entry_name, directory, top)
            else:
                removed += _remove_directory(entry_name, directory, top, depth=depth)
        # Directories that were moved up from below appear here, at the top, while it is being emptied.
        again = directory == top and bool(listed)
    return removed


def _remove_directory(name: str, parent: int, top: int, *, depth: int) -> int:
    make_searchable(name, at=parent)
    with _open_unmounted(name, parent) as child:
        removed = _empty(child, top, depth=depth + 1)
    os.rmdir(name, dir_fd=parent)
    return removed + 1


@contextmanager
def _open_unmounted(name: str, parent: int) -> Iterator[int]:
    descriptor = Opener().open(name, parent)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _move_up(name: str, parent: int, top: int) -> None:
    make_searchable(name, at=parent)
    # A name that nobody can have foreseen: a host may have filled the top with names of its own.
    os.rename(name, f".deep-{secrets.token_hex(8)}", src_dir_fd=parent, dst_dir_fd=top)
