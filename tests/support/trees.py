"""Two trees compared byte by byte and attribute by attribute, walked by directory descriptors.

No link is ever followed and no name is ever decoded. Hard links compare as groups of paths, because inode numbers
cannot be the same on two sides.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = b"."
CHUNK_BYTES: Final = 1024 * 1024
KINDS: Final[tuple[tuple[Callable[[int], bool], str], ...]] = (
    (stat.S_ISREG, "file"),
    (stat.S_ISDIR, "directory"),
    (stat.S_ISLNK, "symlink"),
    (stat.S_ISFIFO, "fifo"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISCHR, "character device"),
    (stat.S_ISBLK, "block device"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One path. `mode` has the permission bits only; `size` (bytes) is 0 for a directory; times in ns.

    `sha256` is set for regular files, `target` for symlinks, `device` for devices. `allocated_bytes` is what the
    file takes on its drive and never part of a comparison.
    """

    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    sha256: str = ""
    target: bytes = b""
    device: int = 0
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)
    inode: tuple[int, int] = field(default=(0, 0), compare=False)
    allocated_bytes: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Tree:
    """Every path below a folder, relative to it, and the folder itself as b"."."""

    entries: Mapping[bytes, Entry]

    @property
    def link_groups(self) -> frozenset[frozenset[bytes]]:
        """The sets of two and more paths that are one inode."""
        return link_groups(self.entries)

    @property
    def allocated_bytes(self) -> int:
        """What the regular files take on their drive, each inode counted once."""
        once = {entry.inode: entry.allocated_bytes for entry in self.entries.values() if entry.kind == "file"}
        return sum(once.values())

    def files(self) -> dict[bytes, Entry]:
        """The regular files."""
        return {path: entry for path, entry in self.entries.items() if entry.kind == "file"}


def snapshot_of(root: Path, *, exclude: Callable[[bytes], bool] | None = None) -> Tree:
    """Read a whole tree. `exclude` gets a relative path; an excluded directory is not entered.

    Raises OSError for whatever cannot be read: a comparison that leaves things out proves nothing.
    """
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        digests: dict[tuple[int, int], str] = {}
        skip = exclude or (lambda _path: False)
        entries = {ROOT: read_directory_entry(descriptor)}
        entries.update(walk(descriptor, b"", skip, digests))
    finally:
        os.close(descriptor)
    return Tree(dict(sorted(entries.items())))


def walk(
    folder: int, prefix: bytes, skip: Callable[[bytes], bool], digests: dict[tuple[int, int], str]
) -> Iterator[tuple[bytes, Entry]]:
    """The entries below an open directory, in no promised order. `digests` remembers inodes already read."""
    for name in (os.fsencode(found) for found in os.listdir(folder)):
        path = prefix + name
        if skip(path):
            continue
        about = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISDIR(about.st_mode):
            yield path, read_entry(folder, name, about, digests)
            continue
        child = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            yield path, read_directory_entry(child)
            yield from walk(child, path + b"/", skip, digests)
        finally:
            os.close(child)


def read_directory_entry(descriptor: int) -> Entry:
    """The entry of an open directory."""
    return entry_of(os.fstat(descriptor), xattrs=user_xattrs(descriptor))


def read_entry(folder: int, name: bytes, about: os.stat_result, digests: dict[tuple[int, int], str]) -> Entry:
    """The entry of anything but a directory."""
    if stat.S_ISLNK(about.st_mode):
        return entry_of(about, target=os.readlink(name, dir_fd=folder))
    if not stat.S_ISREG(about.st_mode):
        return entry_of(about)
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        inode = (about.st_dev, about.st_ino)
        if inode not in digests:
            digests[inode] = sha256_of(descriptor)
        return entry_of(about, sha256=digests[inode], xattrs=user_xattrs(descriptor))
    finally:
        os.close(descriptor)


def entry_of(
    about: os.stat_result,
    *,
    sha256: str = "",
    target: bytes = b"",
    xattrs: Mapping[bytes, bytes] | None = None,
) -> Entry:
    """The entry that a stat result and what was read besides amount to."""
    kind = next(name for test, name in KINDS if test(about.st_mode))
    return Entry(
        kind=kind,
        mode=stat.S_IMODE(about.st_mode),
        uid=about.st_uid,
        gid=about.st_gid,
        mtime_ns=about.st_mtime_ns,
        size=0 if kind == "directory" else about.st_size,
        sha256=sha256,
        target=target,
        device=about.st_rdev,
        xattrs=xattrs or {},
        inode=(about.st_dev, about.st_ino),
        allocated_bytes=about.st_blocks * 512,
    )


def sha256_of(descriptor: int) -> str:
    """The digest of an open file from its beginning."""
    digest = hashlib.sha256()
    offset = 0
    while chunk := os.pread(descriptor, CHUNK_BYTES, offset):
        digest.update(chunk)
        offset += len(chunk)
    return digest.hexdigest()


def user_xattrs(descriptor: int) -> dict[bytes, bytes]:
    """The extended attributes in the user namespace of an open file or directory."""
    try:
        names = [os.fsencode(name) for name in os.listxattr(descriptor)]
    except OSError as error:
        if error.errno == errno.ENOTSUP:  # the file system has none
            return {}
        raise
    return {name: os.getxattr(descriptor, name) for name in sorted(names) if name.startswith(b"user.")}


def link_groups(entries: Mapping[bytes, Entry]) -> frozenset[frozenset[bytes]]:
    """The sets of two and more of these paths that are one inode; a directory is never one of them."""
    by_inode: dict[tuple[int, int], set[bytes]] = {}
    for path, entry in entries.items():
        if entry.kind != "directory":
            by_inode.setdefault(entry.inode, set()).add(path)
    return frozenset(frozenset(group) for group in by_inode.values() if len(group) > 1)


def differences(
    expected: Tree,
    actual: Tree,
    *,
    owners: bool = True,
    mtimes: bool = True,
    xattrs: bool = True,
    links: bool = True,
    root: bool = True,
) -> list[str]:
    """One sentence per difference, in the order of the paths; empty when the trees are identical.

    Each keyword switches one comparison off: user and group, times, extended attributes, hard links, and the
    attributes of the top folder itself.
    """
    before, after = dict(expected.entries), dict(actual.entries)
    if not root:
        before.pop(ROOT, None)
        after.pop(ROOT, None)
    aspects = [
        *(("user", "group") if owners else ()),
        *(("mtime",) if mtimes else ()),
        *(("xattrs",) if xattrs else ()),
    ]
    found: list[str] = []
    for path in sorted(before.keys() | after.keys()):
        if path not in after:
            found.append(f"{show(path)}: missing, expected a {before[path].kind}")
        elif path not in before:
            found.append(f"{show(path)}: extra, a {after[path].kind} that is not expected")
        else:
            found += entry_differences(path, before[path], after[path], aspects)
    return [*found, *(link_differences(before, after) if links else ())]


def entry_differences(path: bytes, expected: Entry, actual: Entry, aspects: list[str]) -> Iterator[str]:
    """One sentence per attribute that differs; of two different kinds nothing else is compared."""
    if expected.kind != actual.kind:
        yield f"{show(path)}: is a {actual.kind}, expected a {expected.kind}"
        return
    wanted, got = described(expected), described(actual)
    for aspect in ("size", "content", "link target", "device", "mode", *aspects):
        if wanted[aspect] != got[aspect]:
            yield f"{show(path)}: {aspect} is {got[aspect]}, expected {wanted[aspect]}"


def described(entry: Entry) -> dict[str, str]:
    """What is compared of an entry, as a reader wants to see it. Equal texts mean equal values."""
    return {
        "size": f"{entry.size:,} bytes",
        "content": f"sha256 {entry.sha256}",
        "link target": show(entry.target),
        "device": f"{entry.device:#x}",
        "mode": f"{entry.mode:04o}",
        "user": str(entry.uid),
        "group": str(entry.gid),
        "mtime": f"{entry.mtime_ns} ns",
        "xattrs": repr(dict(entry.xattrs)),
    }


def link_differences(before: Mapping[bytes, Entry], after: Mapping[bytes, Entry]) -> Iterator[str]:
    """Groups that are not the same on both sides, among the paths that are on both."""
    both = before.keys() & after.keys()
    wanted = link_groups({path: before[path] for path in both})
    got = link_groups({path: after[path] for path in both})
    for group in sorted(wanted - got, key=sorted):
        yield f"{show_group(group)}: expected to be one file under these names (hard links), but are not"
    for group in sorted(got - wanted, key=sorted):
        yield f"{show_group(group)}: are one file under these names (hard links), which is not expected"


def show(path: bytes) -> str:
    """A name that may hold anything, on one line."""
    return repr(path)[1:]


def show_group(group: frozenset[bytes]) -> str:
    """The names of one inode, in order."""
    return ", ".join(show(path) for path in sorted(group))


def inodes(root: Path) -> dict[bytes, tuple[int, int]]:
    """The regular files below a folder: path -> (st_dev, st_ino). Nothing is read of their content.

    Raises OSError for a folder that cannot be read.
    """
    found: dict[bytes, tuple[int, int]] = {}
    top = os.fsencode(root)
    for folder, _folders, names, descriptor in os.fwalk(top, onerror=raise_it, follow_symlinks=False):
        prefix = folder[len(top) + 1 :] + b"/" if folder != top else b""
        for name in names:
            about = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISREG(about.st_mode):
                found[prefix + name] = (about.st_dev, about.st_ino)
    return found


def raise_it(error: OSError) -> None:
    """os.fwalk leaves out what it cannot read, unless it is told not to."""
    raise error
