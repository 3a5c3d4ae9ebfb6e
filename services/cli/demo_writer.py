"""Writes a home directory in which every attribute is set on purpose, so that two of one seed are identical."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

# Times are fixed, not "now": a seed makes the same tree on every day.
EPOCH_NS: Final = 1_767_603_600_000_000_000  # 2026-01-05 09:00 UTC, a Monday
HOUR_NS: Final = 3_600_000_000_000
UNSUPPORTED: Final = frozenset({errno.ENOTSUP, errno.EILSEQ, errno.EINVAL, errno.EPERM})


class HomeWriter:
    """Creates entries below a root by relative byte paths; `finish()` sets what the creating itself disturbs.

    Raises FileExistsError rather than touching what is there. `left_out` says in words what this file system or
    this user cannot have.
    """

    def __init__(self, root: Path) -> None:
        self._root = os.fsencode(root.absolute())
        self._folders: dict[bytes, tuple[int, int]] = {}
        self.regular_files = 0
        self.hard_links = 0
        self.symlinks = 0
        self.apparent_bytes = 0
        self.left_out: list[str] = []

    @property
    def folders(self) -> int:
        """How many directories were made."""
        return len(self._folders)

    def at(self, path: bytes) -> Path:
        """The real place of a relative path."""
        return Path(os.fsdecode(self._root + b"/" + path))

    def folder(self, path: bytes, *, mode: int = 0o755, mtime_ns: int = EPOCH_NS) -> bytes:
        """Make a directory and those above it; returns its path. Mode and time are set by `finish()`."""
        if path not in self._folders:
            if above := folder_of(path):
                self.folder(above)
            self.at(path).mkdir(0o700)
            self._folders[path] = (mode, mtime_ns)
        return path

    def file(self, path: bytes, content: bytes, *, mode: int = 0o644, mtime_ns: int = EPOCH_NS) -> bytes:
        """Make a regular file, and its directory where that is missing; returns its path."""
        self.folder(folder_of(path))
        with self.at(path).open("xb", buffering=0) as file:
            written_bytes = file.write(content)
            os.fchmod(file.fileno(), mode)
            os.utime(file.fileno(), ns=(mtime_ns, mtime_ns))
        if written_bytes != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.at(path)))
        self.regular_files += 1
        self.apparent_bytes += len(content)
        return path

    def odd_file(self, path: bytes, content: bytes) -> None:
        """Make a file whose name this file system may refuse; then it is left out."""
        with self.optional(f"a file called {path.rpartition(b'/')[2][:40]!r}"):
            self.file(path, content)

    def sparse_file(self, path: bytes, size_bytes: int, islands: dict[int, bytes]) -> None:
        """Make a file that is mostly holes, with some content at the given offsets (bytes)."""
        self.file(path, b"")
        with self.at(path).open("r+b", buffering=0) as file:
            for offset, content in islands.items():
                file.seek(offset)
                file.write(content)
            file.truncate(size_bytes)
            os.utime(file.fileno(), ns=(EPOCH_NS, EPOCH_NS))
        self.apparent_bytes += size_bytes

    def hard_link(self, existing: bytes, path: bytes) -> None:
        """Give a file a second name."""
        self.folder(folder_of(path))
        self.at(path).hardlink_to(self.at(existing))
        self.regular_files += 1
        self.hard_links += 1

    def symlink(self, path: bytes, target: bytes) -> None:
        """Make a symlink with exactly this target, wherever that leads."""
        self.folder(folder_of(path))
        self.at(path).symlink_to(os.fsdecode(target))
        os.utime(self.at(path), ns=(EPOCH_NS, EPOCH_NS), follow_symlinks=False)
        self.symlinks += 1

    def attribute(self, path: bytes, name: bytes, value: bytes) -> None:
        """Set an extended attribute of a file or directory, where there are such."""
        with self.optional(f"the extended attribute {name.decode()}"):
            os.setxattr(self.at(path), name, value, follow_symlinks=False)

    def owner(self, path: bytes, uid: int, gid: int) -> None:
        """Give something away (only root may). The mode stays."""
        with self.optional("files of other users"):
            os.chown(self.at(path), uid, gid, follow_symlinks=False)

    def finish(self) -> None:
        """Set modes and times of the directories, deepest first: whatever is written in one changes its time."""
        for path, (mode, mtime_ns) in sorted(self._folders.items(), reverse=True):
            self.at(path).chmod(mode)
            os.utime(self.at(path), ns=(mtime_ns, mtime_ns))

    @contextlib.contextmanager
    def optional(self, what: str) -> Iterator[None]:
        """Leave out, and remember, what this file system or user does not support."""
        try:
            yield
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            self.left_out.append(f"{what}: {error.strerror}")


def folder_of(path: bytes) -> bytes:
    """The path without its last name; empty at the top."""
    return path.rpartition(b"/")[0]
