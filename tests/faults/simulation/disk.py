"""Drives in memory, as the product sees them through `os`, `fcntl` and libc.

What a power cut takes is what a journalling file system may lose: of the changes of directories since the last sync
of anything, the newest ones (a prefix survives); of the content of files, whatever was not synced itself.
"""

from __future__ import annotations

import errno
import os as real_os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from tests.faults.simulation.loop import Process

MOUNT: Final = "/drive"
TOTAL_BYTES: Final = 10**12
TOTAL_INODES: Final = 10**8


@dataclass(slots=True, eq=False)
class Inode:
    """A file, a directory or a symbolic link."""

    number: int
    mode: int
    entries: dict[str, Inode] = field(default_factory=dict)
    data: bytes = b""
    durable: bytes | None = None
    """What a power cut leaves of a file; None: everything in it is on the drive."""
    rows: list[tuple[int, str, str, str]] | None = None
    locks: dict[int, int] = field(default_factory=dict)

    @property
    def is_dir(self) -> bool:
        return stat.S_ISDIR(self.mode)


@dataclass(slots=True, eq=False)
class Drive:
    """A file system."""

    device: int
    root: Inode
    undo: list[Callable[[], object]] = field(default_factory=list)
    dirty: dict[int, Inode] = field(default_factory=dict)
    pulled: bool = False
    full: bool = False
    says_full: bool = False

    def sync_names(self) -> None:
        """Commit what happened to directories."""
        self.undo.clear()

    def sync_content(self, inode: Inode) -> None:
        """Put a file's content on the drive."""
        inode.durable = None
        self.dirty.pop(inode.number, None)

    def cut_power(self, random: Random) -> None:
        """Lose what was not synced."""
        for _ in range(random.randint(0, len(self.undo))):
            self.undo.pop()()
        self.undo.clear()
        for inode in self.dirty.values():
            if random.random() < 0.7 and inode.durable is not None:
                inode.data = inode.durable
            inode.durable = None
        self.dirty.clear()


@dataclass(slots=True, eq=False)
class Opened:
    """An open file."""

    inode: Inode
    drive: Drive
    owner: Process | None
    place: int = 0


def failed(number: int, name: object = "") -> OSError:
    """The error that the kernel would give."""
    return OSError(number, real_os.strerror(number), str(name))


class Disks:
    """All drives, what is mounted, and who has what open. `renamed` and `removing` are told of every change."""

    def __init__(self) -> None:
        self.drives: list[Drive] = []
        self.mounted: Drive | None = None
        self.nothing = self._drive()
        self.opened: dict[int, Opened] = {}
        self.next_descriptor = 1000
        self.next_inode = 1
        self.step: Callable[[Process, str, str], None] = lambda *_: None
        self.moved: Callable[[Drive, tuple[Inode, str], tuple[Inode, str], Inode], None] = lambda *_: None
        self.unlinked: Callable[[Drive, Inode, str, Inode], None] = lambda *_: None

    def _drive(self) -> Drive:
        self.next_inode = getattr(self, "next_inode", 1) + 1
        drive = Drive(len(self.drives) + 1, Inode(self.next_inode, stat.S_IFDIR | 0o755))
        self.drives.append(drive)
        return drive

    def new_drive(self) -> Drive:
        """An empty file system."""
        return self._drive()

    def inode(self, mode: int) -> Inode:
        """A new file or directory."""
        self.next_inode += 1
        return Inode(self.next_inode, mode)

    def close_all(self, owner: Process, keep: dict[int, None]) -> list[int]:
        """What the kernel does when a process ends; returns the locks that its children go on holding."""
        kept = []
        for number in [number for number, opened in self.opened.items() if opened.owner is owner]:
            if number in keep:
                self.opened[number].owner = None
                kept.append(number)
            else:
                self.close(number)
        return kept

    def close(self, number: int) -> None:
        """Close a descriptor; a lock that was taken with it is given up."""
        opened = self.opened.pop(number)
        opened.inode.locks.pop(number, None)

    def find(self, path: str, start: Opened | None, *, follow: bool = True) -> tuple[Drive, Inode, str, Inode | None]:
        """The drive, directory, last name and inode of a path."""
        if start is None:
            if path != MOUNT and not path.startswith(MOUNT + "/"):
                raise AssertionError(f"the product asked for {path}, which is no part of the simulation")
            drive = self.mounted or self.nothing
            inode, parts = drive.root, path[len(MOUNT) + 1 :].split("/")
        else:
            drive, inode, parts = start.drive, start.inode, path.split("/")
        if drive.pulled:
            raise failed(errno.EIO, path)
        parts = [part for part in parts if part and part != "."]
        if not parts:
            return drive, inode, ".", inode
        for part in parts[:-1]:
            found = inode.entries.get(part)
            if found is None:
                raise failed(errno.ENOENT, path)
            if not found.is_dir:
                raise failed(errno.ENOTDIR, path)
            inode = found
        if not inode.is_dir:
            raise failed(errno.ENOTDIR, path)
        return drive, inode, parts[-1], inode.entries.get(parts[-1])
