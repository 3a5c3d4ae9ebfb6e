"""`python -m services.archiver.readahead TREE POSITION < names`: go through a tree, as tar does, ahead of tar.

TREE is a descriptor of the directory, POSITION one of the shared memory of position.py, or "-" when nothing is to be
read ahead. The names at the top come in through the standard input, each ended by a zero byte.

A snapshot that is not in memory is many small files all over a drive, which tar asks for one at a time. Here a few
threads ask for the next ones, so that the drive always has several to fetch, and never more than LEAD_BYTES before
tar needs them. The same walk counts the entries: the archive must have exactly as many.
"""

from __future__ import annotations

import errno
import hashlib
import os
import queue
import resource
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Final

from services.archiver.position import Position
from services.archiver.reports import Surveyed, Trouble, tell

THREADS: Final = 2
"""Measured: one or two halve the time of a cold drive, and more than four only take turns with each other."""

LEAD_BYTES: Final = 64 * 1024 * 1024
WINDOW_BYTES: Final = 2 * 1024 * 1024
"""What is asked for of each file: behind that, the kernel has noticed by itself that it is read from end to end."""

BATCH_FILES: Final = 32
PATIENCE: Final = 8
"""After so many batches that were in memory already, only one in so many is asked for."""

WAIT_SECONDS: Final = 0.01
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def main(words: list[str]) -> int:
    """Go through the tree; returns the exit code."""
    tree = int(words[0])
    ahead = None if words[1] == "-" else Ahead(tree, Position(int(words[1])))
    names = [name for name in sys.stdin.buffer.read().split(b"\0") if name]
    try:
        tell(survey(tree, names, ahead))
    except OSError as error:
        name = os.fsencode(error.filename or b"").decode("ascii", "backslashreplace")
        tell(Trouble("source", error.errno or 0, f"{name}: {error.strerror}"))
        return 1
    return 0


def survey(tree: int, names: list[bytes], ahead: Ahead | None) -> Surveyed:
    """Count what is below these names, and take the digest of names and attributes. Raises OSError."""
    count = dict.fromkeys(("files", "directories", "symlinks", "others", "sockets"), 0)
    digest = hashlib.blake2b(digest_size=16)
    members = 0
    for path, about in walk(tree, names):
        kind = _kind(about.st_mode)
        count[kind] += 1
        members += kind != "sockets"
        size = 0 if kind == "directories" else about.st_size
        facts = (about.st_mode, about.st_uid, about.st_gid, size, about.st_mtime_ns, about.st_ino, about.st_rdev)
        digest.update(b"%b\0%d %d %d %d %d %d %d\n" % (path, *facts))
        if ahead and kind == "files" and size:
            ahead.want(path, min(size, WINDOW_BYTES), members)
    return Surveyed(**count, digest=digest.hexdigest())


def walk(tree: int, names: list[bytes]) -> Iterator[tuple[bytes, os.stat_result]]:
    """Everything below these names, in tar's order. Raises OSError, with EXDEV where something is mounted.

    However deep it is, at most three directories are open.
    """
    device = os.fstat(tree).st_dev
    waiting = [(b"", sorted(names, reverse=True))]
    while waiting:
        path, left = waiting[-1]
        folder = os.open(path or b".", _DIRECTORY, dir_fd=tree)
        try:
            while left:
                name = left.pop()
                about = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if about.st_dev != device:
                    raise OSError(errno.EXDEV, "another file system is mounted here", path + name)
                yield path + name, about
                if stat.S_ISDIR(about.st_mode):
                    waiting.append((path + name + b"/", _names_in(name, folder)))
                    break
            else:
                waiting.pop()
        finally:
            os.close(folder)


def _names_in(name: bytes, parent: int) -> list[bytes]:
    folder = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        return sorted(map(os.fsencode, os.listdir(folder)), reverse=True)
    finally:
        os.close(folder)


def _kind(mode: int) -> str:
    kinds = {stat.S_IFREG: "files", stat.S_IFDIR: "directories", stat.S_IFLNK: "symlinks", stat.S_IFSOCK: "sockets"}
    return kinds.get(stat.S_IFMT(mode), "others")


class Ahead:
    """Has the kernel fetch files, in the order in which they are wanted, not too far ahead of tar."""

    def __init__(self, tree: int, position: Position) -> None:
        self._tree = tree
        self._position = position
        self._batch: list[bytes] = []
        self._batch_bytes = 0
        self._fetched: deque[tuple[int, int]] = deque()
        self._lead_bytes = 0
        self._batches = 0
        self._last_cold = 0
        self._blocks_read = 0
        self._queue: queue.Queue[list[bytes]] = queue.Queue(2 * THREADS)
        for number in range(THREADS):
            threading.Thread(target=self._fetch, name=f"ahead-{number}", daemon=True).start()

    def want(self, path: bytes, size_bytes: int, member: int) -> None:
        """Tell the next file, how much of it is worth fetching, and the how-manieth member it will be."""
        self._batch.append(path)
        self._batch_bytes += size_bytes
        if len(self._batch) >= BATCH_FILES or self._batch_bytes >= WINDOW_BYTES:
            batch, size = self._batch, self._batch_bytes
            self._batch, self._batch_bytes = [], 0
            if self._worth_it():
                self._wait()
                self._fetched.append((member, size))
                self._lead_bytes += size
                self._queue.put(batch)

    def _worth_it(self) -> bool:
        blocks_read = resource.getrusage(resource.RUSAGE_SELF).ru_inblock
        self._batches += 1
        if blocks_read != self._blocks_read:
            self._blocks_read, self._last_cold = blocks_read, self._batches
        return self._batches - self._last_cold < PATIENCE or self._batches % PATIENCE == 0

    def _wait(self) -> None:
        while self._lead_bytes > LEAD_BYTES:
            passed = self._position.members
            while self._fetched and self._fetched[0][0] <= passed:
                self._lead_bytes -= self._fetched.popleft()[1]
            if self._lead_bytes > LEAD_BYTES:
                time.sleep(WAIT_SECONDS)

    def _fetch(self) -> None:
        while True:
            for path in self._queue.get():
                try:
                    file = os.open(path, _FILE, dir_fd=self._tree)
                except OSError:
                    continue  # tar will say so
                try:
                    os.posix_fadvise(file, 0, WINDOW_BYTES, os.POSIX_FADV_WILLNEED)
                finally:
                    os.close(file)


if __name__ == "__main__":
    # What is still to be fetched is needed by nobody any more.
    code = main(sys.argv[1:])
    os._exit(code)
