"""Reading a restore point: nothing outside of it, nothing but files and folders, and never while it is taken away.

Everything is opened beneath the directory of the restore point, through no symbolic link and onto no mount. What is
no regular file is only looked at, never opened: a pipe would wait for ever, and a device does who knows what.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.adapters.beneath import JUST_A_PLACE, Descent, Opener
from shared.adapters.filesystem import open_directory
from shared.adapters.folder_names import FolderNames
from shared.adapters.markers import CHANGES_FILE, FILES_FILE, MARKER_FILE
from shared.adapters.restore_points import FOLDERS
from shared.adapters.store import HostFolder, Store
from shared.domain.errors import BackupManagerError, PointInUse
from shared.domain.events import Kind
from shared.domain.names import HostName, StoreName
from shared.domain.paths import parent_of, shown

RECORDS: Final = frozenset(name.encode() for name in (MARKER_FILE, CHANGES_FILE, FILES_FILE))
"""What a restore point says about itself, at its top. Further down a host may have files of such names."""

_MISSING: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL}
_KINDS: Final = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


class PointMissing(BackupManagerError):
    """The restore point is not on the drive."""


class PathMissing(BackupManagerError):
    """There is no such path in a restore point."""


class PathRefused(BackupManagerError):
    """The path is there, and cannot be read."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something in a restore point. `kind` is file, folder, link, pipe, socket, device or mount."""

    name: bytes
    kind: str
    status: os.stat_result | None
    target: bytes = b""


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the items of a folder, in the order of their names; `more` follow."""

    items: list[Item]
    more: bool
    total: int


class PointTree:
    """An open restore point. `names` remembers the names of large folders."""

    def __init__(self, top: int, names: FolderNames | None = None) -> None:
        self.top = top
        self._names = names or FolderNames(0)

    @contextmanager
    def folder(self, path: bytes) -> Iterator[int]:
        """A descriptor of a folder. Raises PathMissing and PathRefused."""
        with _told(path):
            descriptor = _descend(self.top, path)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def look(self, path: bytes) -> Item:
        """What lies at a path. Raises PathMissing and PathRefused."""
        parent, name = parent_of(path)
        if not path:
            return Item(b"", "folder", os.fstat(self.top))
        if path in RECORDS:
            raise _missing(path)
        with self.folder(parent) as folder, _told(path):
            return _look(Opener(flags=JUST_A_PLACE), name, folder)

    def page(self, path: bytes, after: bytes = b"", limit: int = 1000) -> Page:
        """The items of a folder whose names come after one. Raises PathMissing and PathRefused."""
        with self.folder(path) as folder, _told(path):
            names = self._names.of(folder)
            if not path:
                names = [name for name in names if name not in RECORDS]
            start = bisect_right(names, after) if after else 0
            wanted = names[start : start + limit]
            places = Opener(flags=JUST_A_PLACE)
            items = [_look(places, name, folder) for name in wanted]
        return Page(items, start + limit < len(names), len(names))

    def names(self, path: bytes) -> list[bytes]:
        """The names in a folder, sorted. Raises PathMissing and PathRefused."""
        with self.folder(path) as folder, _told(path):
            return [name for name in self._names.of(folder) if path or name not in RECORDS]

    def items(self, path: bytes) -> Iterator[Item]:
        """All items of a folder in the order of their names, one after the other. Raises PathMissing, PathRefused."""
        with self.folder(path) as folder, _told(path):
            places = Opener(flags=JUST_A_PLACE)
            for name in self._names.of(folder):
                if path or name not in RECORDS:
                    yield _look(places, name, folder)

    def walk(self, path: bytes) -> Iterator[tuple[bytes, Item]]:
        """Everything below a folder with its path from the top, each folder before what it holds."""
        waiting = [path]
        while waiting:
            folder, below = waiting.pop(), []
            for item in self.items(folder):
                full = folder + b"/" + item.name if folder else item.name
                if item.kind == "folder":
                    below.append(full)
                yield full, item
            waiting += reversed(below)

    def open_file(self, path: bytes) -> tuple[int, os.stat_result]:
        """A descriptor of a regular file, the caller's to close. Raises PathMissing and PathRefused."""
        parent, name = parent_of(path)
        if path in RECORDS or not name:
            raise _missing(path)
        with self.folder(parent) as folder, _told(path):
            place = Opener(flags=JUST_A_PLACE).open(os.fsdecode(name), folder)
            try:
                status = os.fstat(place)
                if not stat.S_ISREG(status.st_mode):
                    raise PathRefused(f"‘{shown(path)}’ is a {kind_of(status)}, not a file.", _NO_CONTENT)
                # What is reached through an open place cannot be swapped for something else.
                flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
                return os.open(f"/proc/self/fd/{place}", flags), status
            finally:
                os.close(place)


_NO_CONTENT: Final = "Only files have a content that can be shown."


def kind_of(status: os.stat_result) -> str:
    """What a status is of, in a word."""
    return _KINDS.get(stat.S_IFMT(status.st_mode), "device")


def hold_point(folder: HostFolder, kind: Kind, name: str) -> int:
    """A descriptor of a restore point that nobody removes while it is open. Raises PointMissing and PointInUse."""
    try:
        with open_directory(FOLDERS[kind], at=folder.descriptor) as place:
            tree = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=place)
            try:
                _hold(tree, name, place)
            except BaseException:
                os.close(tree)
                raise
    except BlockingIOError as error:
        raise PointInUse(f"The {kind} {name} is being moved or removed.", "Try again in a moment.") from error
    except OSError as error:
        if error.errno not in _MISSING:
            raise PathRefused(f"The {kind} {name} cannot be read: {error.strerror}.", _DRIVE) from error
        raise PointMissing(
            f"The {kind} {name} is not on the drive.", "`backup-manager audit` compares drive and log."
        ) from error
    return tree


def _hold(tree: int, name: str, place: int) -> None:
    """Take the lock, which goes when the last descriptor of it is closed, and see that the tree is still there."""
    fcntl.flock(tree, fcntl.LOCK_SH | fcntl.LOCK_NB)
    held, there = os.fstat(tree), os.stat(name, dir_fd=place, follow_symlinks=False)
    if not os.path.samestat(held, there):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    os.stat(MARKER_FILE, dir_fd=tree, follow_symlinks=False)


@dataclass(frozen=True, slots=True)
class Where:
    """The host, and the drive on which its restore points are."""

    root: Path
    store: StoreName
    host: HostName


@contextmanager
def reading(where: Where, kind: Kind, name: str, names: FolderNames | None = None) -> Iterator[PointTree]:
    """A restore point, held while the block runs. Raises PointMissing, PointInUse, StoreRefused, PathRefused."""
    with reading_host(where) as folder:
        held = hold_point(folder, kind, name)
    try:
        yield PointTree(held, names)
    finally:
        os.close(held)


@contextmanager
def reading_host(where: Where) -> Iterator[HostFolder]:
    """The folder of a host, only to be read. Raises PointMissing and StoreRefused."""
    opened = Store.open_to_read(where.root, where.store)
    try:
        folder = opened.existing_folder(where.host)
    except OSError as error:
        raise PointMissing(f"The drive has nothing of {where.host}.", "Was it ever backed up?") from error
    finally:
        opened.close()
    with folder:
        yield folder


_DRIVE: Final = "Is the drive failing, or does this program run as another user than the one that made the backup?"


@contextmanager
def _told(path: bytes) -> Iterator[None]:
    """Errors of the kernel as sentences."""
    try:
        yield
    except OSError as error:
        if error.errno in _MISSING:
            raise _missing(path) from error
        if error.errno == errno.EXDEV:
            raise PathRefused(
                f"Something else is mounted at ‘{shown(path)}’.", "It is no part of the backup."
            ) from error
        raise PathRefused(f"‘{shown(path)}’ cannot be read: {error.strerror}.", _DRIVE) from error


def _missing(path: bytes) -> PathMissing:
    return PathMissing(f"There is no ‘{shown(path)}’ in this restore point.", "Its versions show when it was there.")


def _descend(top: int, path: bytes) -> int:
    descent = Descent(top, Opener())
    try:
        return descent.open(os.fsdecode(path))
    finally:
        descent.close()


def _look(places: Opener, name: bytes, folder: int) -> Item:
    try:
        place = places.open(os.fsdecode(name), folder)
    except OSError as error:
        if error.errno == errno.EXDEV:
            return Item(name, "mount", None)
        raise
    try:
        status = os.fstat(place)
        kind = kind_of(status)
        return Item(name, kind, status, os.readlink(b"", dir_fd=place) if kind == "link" else b"")
    finally:
        os.close(place)
