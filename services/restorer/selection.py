"""What of a restore point is to be restored: found beneath it through no symbolic link, and counted."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from shared.adapters.beneath import Descent, Opener
from shared.adapters.filesystem import open_directory, shared_lock
from shared.adapters.markers import read_snapshot
from shared.adapters.restore_points import FOLDERS, read_golden
from shared.adapters.store import HostFolder
from shared.domain.errors import RunFailed
from shared.domain.events import Kind
from shared.domain.restore_request import OWN_FILES, encode_path

BLOCK_BYTES: Final = 512
PAGE_BYTES: Final = 4096
_NOT_THERE: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


@dataclass(frozen=True, slots=True)
class Source:
    """A restore point that is being read. `path` is where it is, `descriptor` its directory held open."""

    name: str
    path: bytes
    descriptor: int


@dataclass(slots=True)
class Counted:
    """What is to be moved. `size_bytes` is the length of the files, `stored_bytes` what they take on a drive."""

    files: int = 0
    directories: int = 0
    others: int = 0
    size_bytes: int = 0
    stored_bytes: int = 0

    @property
    def entries(self) -> int:
        """All of it."""
        return self.files + self.directories + self.others


@contextmanager
def being_read(folder: HostFolder, kind: Kind, name: str) -> Iterator[Source]:
    """The restore point, which nobody removes while the block lasts. Raises RunFailed when there is none."""
    try:
        with (
            open_directory(FOLDERS[kind], at=folder.descriptor) as place,
            open_directory(name, at=place) as tree,
            shared_lock(tree),
        ):
            complete = read_snapshot(name, at=place) if kind is Kind.SNAPSHOT else read_golden(name, at=place)
            if complete is None:
                raise RunFailed(f"The {kind} {name} on the drive is not a complete one.", code="point")
            path = os.path.join(os.fsencode(folder.path), FOLDERS[kind].encode(), name.encode())  # noqa: PTH118
            yield Source(name, path, tree)
    except BlockingIOError as error:
        raise RunFailed(f"The {kind} {name} is being removed.", code="in_use", transient=True) from error
    except FileNotFoundError as error:
        if error.filename not in {name, FOLDERS[kind]}:
            raise
        raise RunFailed(
            f"The {kind} {name} is not on the drive.",
            "Is it in the trash? `backup-manager trash` shows it.",
            code="point",
        ) from error


def chosen(source: Source, paths: Sequence[bytes]) -> list[bytes]:
    """The paths, each known to be there; everything at the top when none is named. Raises RunFailed."""
    if not paths:
        return sorted({os.fsencode(name) for name in os.listdir(source.descriptor)} - OWN_FILES)
    for path in paths:
        with opened_parent(source, path) as (parent, name):
            _is_there(source, path, parent, name)
    return list(paths)


@contextmanager
def opened_parent(source: Source, path: bytes) -> Iterator[tuple[int, bytes]]:
    """The directory that holds a path, and the last part of it. Raises RunFailed at a link on the way."""
    folder, _, name = path.rpartition(b"/")
    try:
        descriptor = open_beneath(source.descriptor, folder)
    except OSError as error:
        raise _refused(source, path, error) from error
    try:
        yield descriptor, name
    finally:
        os.close(descriptor)


def open_beneath(at: int, folder: bytes) -> int:
    """A descriptor of a directory below another, reached through no symbolic link. Raises OSError."""
    return Opener(quiet=True).open(os.fsdecode(folder) or ".", at)


def link_on_the_way(at: int, folder: bytes) -> bool:
    """Whether a symbolic link is why a directory below another cannot be opened."""
    parts = [part for part in folder.split(b"/") if part]
    for count, name in enumerate(parts):
        try:
            above = open_beneath(at, b"/".join(parts[:count]))
        except OSError:
            return False
        try:
            if stat.S_ISLNK(os.stat(name, dir_fd=above, follow_symlinks=False).st_mode):
                return True
        except FileNotFoundError:
            return False
        finally:
            os.close(above)
    return False


def _is_there(source: Source, path: bytes, parent: int, name: bytes) -> None:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        raise _refused(source, path, error) from error


def _refused(source: Source, path: bytes, error: OSError) -> Exception:
    if error.errno not in _NOT_THERE:
        return error
    on_the_way = link_on_the_way(source.descriptor, path.rpartition(b"/")[0])
    why = "a symbolic link lies on the way, and none is followed" if on_the_way else "it has none"
    return RunFailed(f"There is no {encode_path(path)} in {source.name}: {why}.", code="path")


def counted(source: Source, paths: Sequence[bytes], go_on: Callable[[], None]) -> Counted:
    """Count what is below the paths. `go_on` raises when it is to end. Blocking."""
    found = Counted()
    descent = Descent(source.descriptor, Opener(quiet=True))
    try:
        for path in paths:
            with opened_parent(source, path) as (parent, name):
                _count(os.stat(name, dir_fd=parent, follow_symlinks=False), found)
                is_folder = stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
            folders = [os.fsdecode(path)] if is_folder else []
            while folders:
                go_on()
                folders += _count_in(folders.pop(), descent, found)
    finally:
        descent.close()
    return found


def _count_in(folder: str, descent: Descent, found: Counted) -> list[str]:
    """Count what is in one directory; returns the directories in it."""
    descriptor = descent.open(folder)
    try:
        below = []
        for name in os.listdir(descriptor):
            about = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            _count(about, found)
            if stat.S_ISDIR(about.st_mode):
                below.append(f"{folder}/{name}")
        return below
    finally:
        os.close(descriptor)


def _count(about: os.stat_result, found: Counted) -> None:
    if stat.S_ISREG(about.st_mode):
        found.files += 1
        found.size_bytes += about.st_size
        found.stored_bytes += min(about.st_blocks * BLOCK_BYTES, about.st_size + PAGE_BYTES)
    elif stat.S_ISDIR(about.st_mode):
        found.directories += 1
        found.stored_bytes += PAGE_BYTES
    else:
        found.others += 1
