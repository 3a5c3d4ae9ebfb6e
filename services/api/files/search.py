"""Finding paths by name in all restore points of a host, the newest first, within a bounded time.

Where a snapshot is based on the one that was kept before it, its list of changes says what that one had; only where
something in between is gone the list of all files has to be read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import msgspec

from shared.adapters.file_lists import ListMissing, blocks_of_files, changes, has_list_of_files
from shared.adapters.filesystem import open_directory
from shared.adapters.markers import read_snapshot
from shared.adapters.point_tree import PathRefused, PointMissing, PointTree, Where, hold_point, reading_host
from shared.adapters.restore_points import FOLDERS, read_golden
from shared.adapters.store import HostFolder
from shared.domain.errors import PointInUse
from shared.domain.events import Kind
from shared.domain.file_list import parse_line, real_name
from shared.domain.name_pattern import NamePattern
from shared.domain.paths import shown, token_of

LONGEST_SECONDS: Final = 10.0

Point = tuple[Kind, str]


class FoundPath(msgspec.Struct, frozen=True):
    """A path whose name fits, and the first and the last restore point that have it."""

    name: str
    path: str
    first: str
    last: str


class FoundPaths(msgspec.Struct, frozen=True):
    """What was found. `looked_at` of `points` restore points; `more` when the time or the count ran out before all."""

    paths: list[FoundPath]
    points: int
    looked_at: int
    more: bool


@dataclass(slots=True)
class _Finds:
    """What is known so far. `open` is what the restore point that was looked at last has."""

    most: int
    more: bool = False
    first: dict[bytes, str] = field(default_factory=dict)
    last: dict[bytes, str] = field(default_factory=dict)
    open: set[bytes] = field(default_factory=set)

    def has(self, path: bytes, point: str) -> None:
        """A restore point, older than those before, has this path."""
        if path not in self.last:
            if len(self.last) >= self.most:
                self.more = True
                return
            self.last[path] = point
        self.open.add(path)
        self.first[path] = point

    def still_there(self, point: str) -> None:
        """What the newer one has, this one has too unless something says otherwise."""
        for path in self.open:
            self.first[path] = point


class _Search:
    """A search under way; `end` is when it has to stop."""

    def __init__(self, folder: HostFolder, pattern: NamePattern, finds: _Finds, late: Callable[[], bool]) -> None:
        self._folder = folder
        self._pattern = pattern
        self._finds = finds
        self._late = late
        self._newer: str | None = None

    def look(self, point: Point) -> None:
        """Look into the next older restore point. Raises PointMissing, PointInUse and ListMissing."""
        kind, name = point
        if kind is Kind.GOLDEN:
            self._golden(name)
            return
        if self._newer is None or _base_of(self._folder, self._newer) != name or not self._undo(self._newer, name):
            self._all_of(point)
        self._newer = name

    def _golden(self, name: str) -> None:
        """A golden copy stands beside the chain of snapshots, which goes on where it was."""
        with open_directory(FOLDERS[Kind.GOLDEN], at=self._folder.descriptor) as place:
            found = read_golden(name, at=place)
        if found and found.record.event.snapshot == self._newer:
            self._finds.still_there(name)
            return
        before = set(self._finds.open)
        self._all_of((Kind.GOLDEN, name))
        self._finds.open = before

    def _undo(self, newer: str, name: str) -> bool:
        """What a snapshot had is what the one based on it has, less what was added, and what was removed.

        False when nothing tells what was.
        """
        try:
            with _held(self._folder, (Kind.SNAPSHOT, newer)) as held:
                said = [(change.name, change.change) for change in changes(held) if self._pattern.fits(change.name)]
        except ListMissing:
            return False
        self._finds.open -= {path for path, what in said if what == "added"}
        self._finds.still_there(name)
        for path in [path for path, what in said if what == "removed"]:
            self._finds.has(path, name)
        return True

    def _all_of(self, point: Point) -> None:
        with _held(self._folder, point) as held:
            there = list(self._fitting(held))
        self._finds.open.clear()
        for path in there:
            self._finds.has(path, point[1])

    def _fitting(self, held: int) -> Iterator[bytes]:
        """The paths that fit: by the list of files, or by walking where there is none."""
        try:
            for block in blocks_of_files(held) if has_list_of_files(held) else _no_list():
                if self._stop():
                    return
                for line in self._pattern.lines_that_may_fit(block):
                    if self._pattern.fits(path := real_name(parse_line(line).key)):
                        yield path
        except ListMissing:
            for path, _ in PointTree(held).walk(b""):
                if self._stop():
                    return
                if self._pattern.fits(path):
                    yield path

    def _stop(self) -> bool:
        self._finds.more = self._finds.more or self._late()
        return self._late()


def search(
    where: Where, points: Sequence[Point], pattern: NamePattern, *, limit: int, seconds: Callable[[], float]
) -> FoundPaths:
    """Find names in restore points, given oldest first; `seconds` is a clock. Blocking. Raises StoreRefused."""
    finds, end, looked_at = _Finds(limit), seconds() + LONGEST_SECONDS, 0
    with reading_host(where) as folder:
        under_way = _Search(folder, pattern, finds, lambda: seconds() > end)
        for point in reversed(points):
            if seconds() > end:
                finds.more = True
                break
            with suppress(PointMissing, PointInUse, PathRefused, ListMissing):
                under_way.look(point)
                looked_at += 1
    found = [
        FoundPath(shown(path), token_of(path), finds.first[path], last) for path, last in sorted(finds.last.items())
    ]
    return FoundPaths(found, len(points), looked_at, finds.more)


def _no_list() -> Iterator[bytes]:
    raise ListMissing("it is empty")


@contextmanager
def _held(folder: HostFolder, point: Point) -> Iterator[int]:
    held = hold_point(folder, *point)
    try:
        yield held
    finally:
        os.close(held)


def _base_of(folder: HostFolder, name: str) -> str | None:
    with open_directory(FOLDERS[Kind.SNAPSHOT], at=folder.descriptor) as place:
        found = read_snapshot(name, at=place)
    return found.marker.event.base if found else None
