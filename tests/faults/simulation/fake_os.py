"""The part of `os` that the product uses on drives, on simulated ones."""

from __future__ import annotations

import errno
import os as real_os
import stat
from collections.abc import Iterator
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any, Final

from tests.faults.simulation.disk import TOTAL_BYTES, TOTAL_INODES, Disks, Drive, Inode, Opened, failed
from tests.faults.simulation.loop import here


class FakeOs:
    """The part of `os` that the product uses on drives. Every change is a step at which its process may die."""

    REAL: Final = frozenset({"strerror", "fsencode", "fsdecode", "fspath", "major", "minor", "PathLike", "stat_result"})

    def __init__(self, disks: Disks) -> None:
        self._disks = disks
        for name in dir(real_os):
            if name in self.REAL or name.startswith(("O_", "ST_")) or name in {"R_OK", "W_OK", "X_OK", "F_OK"}:
                setattr(self, name, getattr(real_os, name))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"os.{name} is not simulated")

    def _at(self, descriptor: int | None) -> Opened | None:
        here().check()
        if descriptor is None:
            return None
        opened = self._disks.opened.get(descriptor)
        if opened is None:
            raise failed(errno.EBADF, descriptor)
        if opened.drive.pulled:
            raise failed(errno.EIO, descriptor)
        return opened

    def _open_file(self, descriptor: int) -> Opened:
        opened = self._at(descriptor)
        assert opened is not None
        return opened

    def _find(self, path: Any, dir_fd: int | None) -> tuple[Drive, Inode, str, Inode | None]:
        return self._disks.find(real_os.fspath(path), self._at(dir_fd))

    def _existing(self, path: Any, dir_fd: int | None) -> tuple[Drive, Inode, str, Inode]:
        drive, parent, name, inode = self._find(path, dir_fd)
        if inode is None:
            raise failed(errno.ENOENT, path)
        return drive, parent, name, inode

    def _step(self, what: str, name: str) -> None:
        self._disks.step(here(), what, name)

    def _room(self, drive: Drive, name: object) -> None:
        if drive.full:
            raise failed(errno.ENOSPC, name)

    def _add(self, drive: Drive, parent: Inode, name: str, inode: Inode) -> None:
        parent.entries[name] = inode
        drive.undo.append(lambda: parent.entries.pop(name, None))

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        drive, parent, name, inode = self._find(path, dir_fd)
        if inode is None:
            if not flags & real_os.O_CREAT:
                raise failed(errno.ENOENT, path)
            self._room(drive, path)
            self._step("create", name)
            inode = self._disks.inode(stat.S_IFREG | mode)
            inode.durable = b""
            drive.dirty[inode.number] = inode
            self._add(drive, parent, name, inode)
        elif flags & real_os.O_EXCL and flags & real_os.O_CREAT:
            raise failed(errno.EEXIST, path)
        if stat.S_ISLNK(inode.mode):
            raise failed(errno.ELOOP, path)
        if flags & real_os.O_DIRECTORY and not inode.is_dir:
            raise failed(errno.ENOTDIR, path)
        self._disks.next_descriptor += 1
        self._disks.opened[self._disks.next_descriptor] = Opened(inode, drive, here())
        return self._disks.next_descriptor

    def close(self, descriptor: int) -> None:
        if not here().dead and descriptor in self._disks.opened:
            self._disks.close(descriptor)

    def _status(self, drive: Drive, inode: Inode) -> real_os.stat_result:
        return real_os.stat_result((inode.mode, inode.number, drive.device, 1, 0, 0, len(inode.data), 0, 0, 0))

    def fstat(self, descriptor: int) -> real_os.stat_result:
        opened = self._open_file(descriptor)
        return self._status(opened.drive, opened.inode)

    def stat(self, path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> real_os.stat_result:
        drive, _, _, inode = self._existing(path, dir_fd)
        return self._status(drive, inode)

    def listdir(self, descriptor: int) -> list[str]:
        return list(self._open_file(descriptor).inode.entries)

    def scandir(self, descriptor: int) -> Any:
        found = [_Entry(name, inode) for name, inode in self._open_file(descriptor).inode.entries.items()]
        return _Entries(found)

    def mkdir(self, path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        drive, parent, name, inode = self._find(path, dir_fd)
        if inode is not None:
            raise failed(errno.EEXIST, path)
        self._room(drive, path)
        self._step("mkdir", name)
        self._add(drive, parent, name, self._disks.inode(stat.S_IFDIR | mode))

    def symlink(self, target: str, name: str, *, dir_fd: int | None = None) -> None:
        drive, parent, last, inode = self._find(name, dir_fd)
        if inode is not None:
            raise failed(errno.EEXIST, name)
        self._room(drive, name)
        self._step("symlink", last)
        made = self._disks.inode(stat.S_IFLNK | 0o777)
        made.data = target.encode()
        self._add(drive, parent, last, made)

    def readlink(self, name: str, *, dir_fd: int | None = None) -> str:
        _, _, _, inode = self._existing(name, dir_fd)
        if not stat.S_ISLNK(inode.mode):
            raise failed(errno.EINVAL, name)
        return inode.data.decode()

    def link(self, source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int, follow_symlinks: bool = True) -> None:
        drive, _, _, inode = self._existing(source, src_dir_fd)
        _, parent, name, there = self._find(target, dst_dir_fd)
        if there is not None:
            raise failed(errno.EEXIST, target)
        self._room(drive, target)
        self._step("link", name)
        self._add(drive, parent, name, inode)

    def unlink(self, name: Any, *, dir_fd: int | None = None) -> None:
        drive, parent, last, inode = self._existing(name, dir_fd)
        if inode.is_dir:
            raise failed(errno.EISDIR, name)
        self._step("unlink", last)
        self._disks.unlinked(drive, parent, last, inode)
        del parent.entries[last]
        drive.undo.append(lambda: parent.entries.__setitem__(last, inode))

    def rmdir(self, name: Any, *, dir_fd: int | None = None) -> None:
        drive, parent, last, inode = self._existing(name, dir_fd)
        if inode.entries:
            raise failed(errno.ENOTEMPTY, name)
        self._step("rmdir", last)
        del parent.entries[last]
        drive.undo.append(lambda: parent.entries.__setitem__(last, inode))

    def rename(self, source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int, new: bool = False) -> None:
        drive, old_parent, old, inode = self._existing(source, src_dir_fd)
        _, parent, name, there = self._find(target, dst_dir_fd)
        if there is not None and (new or there.is_dir):
            raise failed(errno.EEXIST, target)
        self._step("rename", f"{old} {name}")
        self._disks.moved(drive, (old_parent, old), (parent, name), inode)
        del old_parent.entries[old]
        parent.entries[name] = inode

        def back() -> None:
            parent.entries.pop(name, None)
            if there is not None:
                parent.entries[name] = there
            old_parent.entries[old] = inode

        drive.undo.append(back)

    def fsync(self, descriptor: int) -> None:
        opened = self._open_file(descriptor)
        self._step("fsync", "")
        opened.drive.sync_names()
        opened.drive.sync_content(opened.inode)

    def syncfs(self, descriptor: int) -> None:
        opened = self._open_file(descriptor)
        self._step("syncfs", "")
        opened.drive.sync_names()
        for inode in list(opened.drive.dirty.values()):
            opened.drive.sync_content(inode)

    def write(self, descriptor: int, data: Any) -> int:
        opened = self._open_file(descriptor)
        self._room(opened.drive, "")
        self._step("write", "")
        inode = opened.inode
        if inode.durable is None:
            inode.durable = inode.data
        opened.drive.dirty[inode.number] = inode
        inode.data += bytes(data)
        return len(data)

    def read(self, descriptor: int, count: int) -> bytes:
        opened = self._open_file(descriptor)
        piece = opened.inode.data[opened.place : opened.place + count]
        opened.place += len(piece)
        return piece

    def fstatvfs(self, descriptor: int) -> Any:
        drive = self._open_file(descriptor).drive
        free = 0 if drive.says_full else TOTAL_BYTES // 2
        return SimpleNamespace(
            f_flag=0, f_blocks=TOTAL_BYTES, f_frsize=1, f_bavail=free, f_files=TOTAL_INODES, f_favail=TOTAL_INODES // 2
        )

    def access(self, path: str, _mode: int) -> bool:
        here().check()
        return True

    def fchmod(self, descriptor: int, mode: int) -> None:
        self._open_file(descriptor)

    def getxattr(self, *_: object) -> bytes:
        raise failed(errno.ENODATA)

    def fdopen(self, descriptor: int, _mode: str) -> _Stream:
        return _Stream(self, descriptor)

    def getpid(self) -> int:
        return here().number

    def geteuid(self) -> int:
        return 0


class _Entry:
    def __init__(self, name: str, inode: Inode) -> None:
        self.name = name
        self._inode = inode

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return self._inode.is_dir


class _Entries(list[_Entry]):
    def __enter__(self) -> Iterator[_Entry]:
        return iter(self)

    def __exit__(self, *_: object) -> None:
        return


class _Stream:
    """A file object, as far as it is used."""

    def __init__(self, os: FakeOs, descriptor: int) -> None:
        self._os = os
        self._descriptor = descriptor

    def __enter__(self) -> _Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._os.close(self._descriptor)

    def read(self, limit: int) -> bytes:
        return self._os.read(self._descriptor, limit)

    def write(self, data: bytes) -> int:
        return self._os.write(self._descriptor, data)


class FakePath(PurePosixPath):
    """A path on a simulated drive."""

    os: FakeOs

    def stat(self) -> real_os.stat_result:
        return self.os.stat(self)

    def exists(self) -> bool:
        try:
            self.os.stat(self)
        except FileNotFoundError:
            return False
        return True

    def mkdir(self, mode: int = 0o777) -> None:
        self.os.mkdir(self, mode)

    def unlink(self) -> None:
        self.os.unlink(self)

    def open(self, _mode: str) -> _Stream:
        return _Stream(self.os, self.os.open(self, real_os.O_WRONLY | real_os.O_CREAT, 0o644))
