"""What differs between two restore points, in the cheapest way that is right.

    changes   every snapshot from the one to the other is kept: only what their change lists name is looked at
    lists     both carry a list of all files: where the lines differ; attributes alone are not in them
    trees     else both are walked

Whatever names a path, the answer comes from looking at both trees.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final, Literal

import msgspec

from services.api.files.candidates import by_changes, by_lists, by_trees
from services.api.files.entries import FileEntry, entry_of
from shared.adapters.file_lists import ListMissing, has_list_of_files
from shared.adapters.point_tree import Item, PathMissing, PathRefused, PointTree, Where, hold_point, reading_host
from shared.domain.events import Kind
from shared.domain.paths import parent_of, path_in_address, shown, token_of

LONGEST_SECONDS: Final = 10.0

How = Literal["changes", "lists", "trees"]
What = Literal["added", "removed", "changed", "attributes"]


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """A path that is not the same in both. `attributes`: only mode or owner changed."""

    change: What
    name: str
    path: str
    before: FileEntry | None = None
    after: FileEntry | None = None


class Differences(msgspec.Struct, frozen=True):
    """Some of the differences. `next` is where the next page begins; null when there are no more.

    `how` says what was compared: with `lists`, what changed in nothing but mode or owner is not found.
    """

    older: str
    newer: str
    how: How
    differences: list[Difference]
    next: str | None = None


Point = tuple[Kind, str]


def differences(
    where: Where, older: Point, newer: Point, *, after: str, limit: int, seconds: Callable[[], float]
) -> Differences:
    """Compare two restore points; `seconds` is a clock. Blocking. Raises PointMissing, PointInUse, StoreRefused."""
    with ExitStack() as stack:
        folder = stack.enter_context(reading_host(where))
        trees = []
        for kind, name in (older, newer):
            trees.append(PointTree(hold_point(folder, kind, name)))
            stack.callback(os.close, trees[-1].top)
        wanted, _, token = after.partition(":")
        start = path_in_address(token.encode("ascii", "ignore"))
        end = seconds() + LONGEST_SECONDS
        page = _Pages((older, newer), trees, limit, lambda: seconds() > end)
        chain = by_changes(folder, older, newer, start) if wanted in {"", "changes"} else None
        if chain is not None:
            return page.of("changes", chain)
        if wanted != "trees" and all(has_list_of_files(tree.top) for tree in trees):
            try:
                found = by_lists(trees[0].top, trees[1].top, start)
                return page.of("lists", found)
            except ListMissing:
                pass  # it is broken: the trees themselves are the truth
        walk = by_trees(trees[0], trees[1], start)
        return page.of("trees", walk)


class _Pages:
    """Two trees, and how much of their differences is wanted."""

    def __init__(
        self, points: tuple[Point, Point], trees: list[PointTree], limit: int, late: Callable[[], bool]
    ) -> None:
        self._points = points
        self._trees = trees
        self._limit = limit
        self._late = late

    def of(self, how: How, paths: Iterator[bytes]) -> Differences:
        """The differences at the next of these paths."""
        found: list[Difference] = []
        following = None
        for path in paths:
            if difference := judged(path, look(self._trees[0], path), look(self._trees[1], path)):
                found.append(difference)
            if len(found) >= self._limit or self._late():
                following = f"{how}:{token_of(path)}"
                break
        (_, older), (_, newer) = self._points
        return Differences(older, newer, how, found, following)


def look(tree: PointTree, path: bytes) -> Item | None:
    """What lies at a path; None when there is nothing, or nothing that can be looked at."""
    try:
        return tree.look(path)
    except (PathMissing, PathRefused):
        return None


def judged(path: bytes, old: Item | None, new: Item | None) -> Difference | None:
    """What differs, or None."""
    what = _what(old, new)
    if what is None:
        return None
    above = parent_of(path)[0]
    before, after = (entry_of(item, above) if item else None for item in (old, new))
    return Difference(what, shown(path), token_of(path), before, after)


def _what(old: Item | None, new: Item | None) -> What | None:
    if old is None or new is None:
        return "removed" if old else "added" if new else None
    if old.kind != new.kind or old.target != new.target:
        return "changed"
    if old.status is None or new.status is None:
        return None
    a, b = old.status, new.status
    if old.kind == "file" and a.st_ino != b.st_ino and (a.st_size, a.st_mtime_ns) != (b.st_size, b.st_mtime_ns):
        return "changed"
    return "attributes" if (a.st_mode, a.st_uid, a.st_gid) != (b.st_mode, b.st_uid, b.st_gid) else None
