"""Which paths may differ between two restore points: each way gives them in an order of its own, after a path."""

from __future__ import annotations

import os
from collections.abc import Iterator

from shared.adapters.file_lists import ListMissing, changes, lines_of_files
from shared.adapters.filesystem import open_directory
from shared.adapters.markers import read_snapshot
from shared.adapters.point_tree import PathMissing, PathRefused, PointTree, hold_point
from shared.adapters.store import HostFolder
from shared.domain.errors import BackupManagerError
from shared.domain.events import Kind
from shared.domain.file_list import parse_line, real_name

LONGEST_CHAIN = 200
MOST_PATHS = 300_000

Point = tuple[Kind, str]


def by_changes(folder: HostFolder, older: Point, newer: Point, after: bytes) -> Iterator[bytes] | None:
    """What the change lists from the one to the other name; None when one of them is missing, or they are too long."""
    chain = _chain(folder, older, newer)
    if chain is None:
        return None
    paths: set[bytes] = set()
    for name in chain:
        try:
            held = hold_point(folder, Kind.SNAPSHOT, name)
        except BackupManagerError:
            return None
        try:
            for change in changes(held):
                paths.add(change.name)
                if len(paths) > MOST_PATHS:
                    return None
        except ListMissing:
            return None
        finally:
            os.close(held)
    return iter(sorted(path for path in paths if path > after))


def _chain(folder: HostFolder, older: Point, newer: Point) -> list[str] | None:
    """The snapshots after the older one up to the newer, each based on the one before."""
    if older[0] is not Kind.SNAPSHOT or newer[0] is not Kind.SNAPSHOT:
        return None
    chain: list[str] = []
    name: str | None = newer[1]
    with open_directory("hourly", at=folder.descriptor) as place:
        while name != older[1]:
            if name is None or len(chain) > LONGEST_CHAIN or (found := read_snapshot(name, at=place)) is None:
                return None
            chain.append(name)
            name = found.marker.event.base
    return chain


def by_lists(older: int, newer: int, after: bytes) -> Iterator[bytes]:
    """Where two lists of files differ, in their order. Raises ListMissing, maybe in the middle."""
    skipping = bool(after)
    for line in _differing(lines_of_files(older), lines_of_files(newer)):
        path = real_name(parse_line(line).key)
        if not skipping:
            yield path
        skipping = skipping and path != after


def _differing(olds: Iterator[bytes], news: Iterator[bytes]) -> Iterator[bytes]:
    """The lines that only one of two sorted lists has; of two lines about the same name, the newer."""
    old, new = next(olds, None), next(news, None)
    while old is not None or new is not None:
        if old == new:
            old, new = next(olds, None), next(news, None)
            continue
        old_key = parse_line(old).key if old is not None else None
        new_key = parse_line(new).key if new is not None else None
        if new is None or (old is not None and old_key is not None and new_key is not None and old_key < new_key):
            yield old or b""
            old = next(olds, None)
        else:
            yield new
            if old_key == new_key:
                old = next(olds, None)
            new = next(news, None)


def by_trees(older: PointTree, newer: PointTree, after: bytes) -> Iterator[bytes]:
    """Every path of both, each folder before what it holds."""
    start = after.split(b"/")
    waiting = [b""]
    while waiting:
        path = waiting.pop()
        if path and (not after or path.split(b"/") > start):
            yield path
        names = _names(older, path) | _names(newer, path)
        below = [path + b"/" + name if path else name for name in sorted(names, reverse=True)]
        waiting += [child for child in below if not after or child.split(b"/") >= start[: child.count(b"/") + 1]]


def _names(tree: PointTree, path: bytes) -> set[bytes]:
    try:
        return set(tree.names(path))
    except (PathMissing, PathRefused):
        return set()
