"""Whether a restored tree is what the restore point is: every name, mode, owner, time, link, attribute and byte.

Nothing is followed and no name is decoded. Both trees are walked at once by directory descriptors, however deep they
are. What is read was written to the drive before and is taken out of memory first, so that it is the drive that
answers.
"""

from __future__ import annotations

import errno
import os
import stat
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from services.restorer.selection import open_beneath
from services.restorer.watch import Watch
from shared.adapters.beneath import Descent, Opener
from shared.domain.restore_request import encode_path

CHUNK_BYTES: Final = 1024 * 1024
MUNGED: Final = b"/rsyncd-munged/"
"""What rsync puts before the targets of links that it receives without walls around it, and takes off again."""

_ACLS: Final = ("system.posix_acl_access", "system.posix_acl_default")
_NO_ATTRIBUTES: Final = {errno.ENOTSUP, errno.ENODATA, errno.EPERM}


class Differences:
    """What differs: the first names, and how many there are."""

    KEPT: Final = 20

    def __init__(self) -> None:
        self.count = 0
        self.named: list[str] = []

    def add(self, path: bytes, what: str) -> None:
        """Note one."""
        self.count += 1
        if len(self.named) < self.KEPT:
            self.named.append(f"{encode_path(path)} ({what})")


class Covered:
    """The names whose content is proven already, eight bytes for each."""

    def __init__(self) -> None:
        self._hashes = array("q")
        self._sorted = True

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, path: bytes) -> None:
        """Note one."""
        self._hashes.append(hash(path))
        self._sorted = False

    def __contains__(self, path: bytes) -> bool:
        if not self._sorted:
            self._hashes = array("q", sorted(self._hashes))
            self._sorted = True
        wanted = hash(path)
        index = bisect_left(self._hashes, wanted)
        return index < len(self._hashes) and self._hashes[index] == wanted


class Comparison:
    """Compares a tree with its restored copy, path by path. Blocking."""

    def __init__(self, source: int, target: int, covered: Covered, *, owners: bool) -> None:
        self._tops = (source, target)
        self._descents = (Descent(source, Opener(quiet=True)), Descent(target, Opener(quiet=True)))
        self._covered = covered
        self._watch = Watch()
        self._owners = owners
        self._links: dict[int, int] = {}
        self._single = array("Q")
        self.compared = 0
        self.differences = Differences()

    def run(self, paths: Sequence[bytes], watch: Watch) -> Differences:
        """Compare what is at these paths and below them, and the folders on the way to them."""
        self._watch = watch
        try:
            for path in _with_parents(paths):
                self._at(path)
            folders = [path for path in paths if self._is_folder(path)]
            while folders:
                self._watch.go_on()
                folders += self._folder(folders.pop())
        finally:
            for descent in self._descents:
                descent.close()
        self._check_links()
        return self.differences

    def _is_folder(self, path: bytes) -> bool:
        folder, _, name = path.rpartition(b"/")
        ends = []
        for top in self._tops:
            try:
                at = open_beneath(top, folder)
            except OSError:
                return False  # said already
            try:
                ends.append(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
            except FileNotFoundError:
                return False
            finally:
                os.close(at)
        return all(map(stat.S_ISDIR, ends))

    def _at(self, path: bytes) -> None:
        folder, _, name = path.rpartition(b"/")
        source = open_beneath(self._tops[0], folder)
        try:
            target = open_beneath(self._tops[1], folder)
        except OSError:
            os.close(source)
            self.differences.add(path, "missing")
            return
        try:
            self._entry(path, name, source, target)
        finally:
            os.close(source)
            os.close(target)

    def _folder(self, path: bytes) -> list[bytes]:
        """Compare what is in one directory; returns the directories in it that both sides have."""
        source, target = (descent.open(os.fsdecode(path)) for descent in self._descents)
        try:
            here, there = (set(map(os.fsencode, os.listdir(side))) for side in (source, target))
            for name in sorted(there - here):
                self.differences.add(path + b"/" + name, "is not in the restore point")
            return [
                path + b"/" + name for name in sorted(here) if self._entry(path + b"/" + name, name, source, target)
            ]
        finally:
            os.close(source)
            os.close(target)

    def _entry(self, path: bytes, name: bytes, source: int, target: int) -> bool:
        """Compare one entry; returns whether it is a directory on both sides."""
        before = os.stat(name, dir_fd=source, follow_symlinks=False)
        try:
            after = os.stat(name, dir_fd=target, follow_symlinks=False)
        except FileNotFoundError:
            self.differences.add(path, "missing")
            return False
        if what := self._attributes(before, after):
            self.differences.add(path, what)
        if stat.S_IFMT(before.st_mode) != stat.S_IFMT(after.st_mode):
            return False
        if stat.S_ISLNK(before.st_mode):
            ends = [os.readlink(name, dir_fd=side).removeprefix(MUNGED) for side in (source, target)]
            if ends[0] != ends[1]:
                self.differences.add(path, "link target")
        elif stat.S_ISREG(before.st_mode):
            self._file(path, name, (source, before), (target, after))
        elif stat.S_ISDIR(before.st_mode):
            if self._extended(name, source) != self._extended(name, target):
                self.differences.add(path, "extended attributes")
            return True
        return False

    def _attributes(self, before: os.stat_result, after: os.stat_result) -> str:
        if stat.S_IFMT(before.st_mode) != stat.S_IFMT(after.st_mode):
            return "kind"
        pairs = {
            "mode": (before.st_mode, after.st_mode),
            "time": (before.st_mtime_ns, after.st_mtime_ns),
            "owner": ((before.st_uid, before.st_gid), (after.st_uid, after.st_gid)) if self._owners else (0, 0),
            "size": (before.st_size, after.st_size) if stat.S_ISREG(before.st_mode) else (0, 0),
            "device": (before.st_rdev, after.st_rdev),
        }
        return ", ".join(what for what, (first, second) in pairs.items() if first != second)

    def _file(
        self, path: bytes, name: bytes, source: tuple[int, os.stat_result], target: tuple[int, os.stat_result]
    ) -> None:
        self._watch.files += 1
        before, after = source[1], target[1]
        known = self._links.get(after.st_ino)
        if after.st_nlink > 1:
            self._links.setdefault(after.st_ino, before.st_ino)
        else:
            self._single.append(before.st_ino)
        if known is not None:
            if known != before.st_ino:
                self.differences.add(path, "hard link")
            self.compared += 1
            return
        if self._extended(name, source[0]) != self._extended(name, target[0]):
            self.differences.add(path, "extended attributes")
        if path not in self._covered and not self._same_content(name, source[0], target[0]):
            self.differences.add(path, "content")
        self.compared += 1

    def _same_content(self, name: bytes, source: int, target: int) -> bool:
        first, second = open_to_read(name, source), open_to_read(name, target)
        try:
            while True:
                self._watch.go_on()
                here, there = read_full(first), read_full(second)
                self._watch.bytes += len(there)
                if here != there:
                    return False
                if not here:
                    return True
        finally:
            os.close(first)
            os.close(second)

    def _extended(self, name: bytes, at: int) -> dict[str, bytes]:
        """What the backup keeps of extended attributes: those of users, and ACLs."""
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
        except PermissionError:
            return {}
        try:
            names = [found for found in os.listxattr(descriptor) if found.startswith("user.") or found in _ACLS]
            return {found: os.getxattr(descriptor, found) for found in names}
        except OSError as error:
            if error.errno not in _NO_ATTRIBUTES:
                raise
            return {}
        finally:
            os.close(descriptor)

    def _check_links(self) -> None:
        """No file of the restore point became several: neither all alone, nor beside a linked one."""
        inodes = sorted(self._single)
        linked = set(self._links.values())
        twice = sum(first == second for first, second in pairwise(inodes))
        twice += sum(inode in linked for inode in inodes) if linked else 0
        twice += len(self._links) - len(linked)
        for _ in range(twice):
            self.differences.add(b"", "names of one file became several files")


def _with_parents(paths: Iterable[bytes]) -> list[bytes]:
    """The paths and the folders above them, each once, from the top down."""
    found = set()
    for path in paths:
        parts = path.split(b"/")
        found |= {b"/".join(parts[: count + 1]) for count in range(len(parts))}
    return sorted(found)


def open_to_read(name: bytes, at: int) -> int:
    """A descriptor of a file, what memory has of it forgotten. Raises OSError."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return descriptor


def read_full(descriptor: int) -> bytes:
    """The next piece, shorter only at the end."""
    pieces, left = [], CHUNK_BYTES
    while left and (piece := os.read(descriptor, left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces) if len(pieces) != 1 else pieces[0]
