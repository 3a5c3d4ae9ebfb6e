"""One path through time: what it was in each restore point, equal versions as one bar."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import msgspec

from services.api.files.entries import FileEntry, entry_of
from shared.adapters.point_tree import (
    Item,
    PathMissing,
    PathRefused,
    PointMissing,
    PointTree,
    Where,
    hold_point,
    reading_host,
)
from shared.adapters.store import HostFolder
from shared.domain.errors import PointInUse
from shared.domain.events import Kind
from shared.domain.paths import parent_of, token_of


class Bar(msgspec.Struct, frozen=True, omit_defaults=True):
    """One version, or a time without the path, over `points` restore points in a row.

    `first` and `last` are their names. `only_attributes` says that size and time are those of the version before.
    """

    first: str
    last: str
    points: int
    version: FileEntry | None = None
    only_attributes: bool = False


class Versions(msgspec.Struct, frozen=True):
    """All versions of a path, the oldest first.

    `gone_since` is the first restore point without it when the newest ones have none. `unreadable` are restore points
    that could not be looked into.
    """

    path: str
    points: int
    versions: list[Bar]
    gone_since: str | None = None
    unreadable: list[str] = []


@dataclass(slots=True)
class _Run:
    key: Hashable
    item: Item | None
    names: list[str]


def versions_of(where: Where, points: Sequence[tuple[Kind, str]], path: bytes) -> Versions:
    """Look a path up in restore points, given oldest first. Blocking. Raises PointMissing and StoreRefused."""
    runs: list[_Run] = []
    unreadable: list[str] = []
    with reading_host(where) as folder:
        for kind, name in points:
            try:
                item = _look(folder, kind, name, path)
            except (PointMissing, PointInUse, PathRefused):
                unreadable.append(name)
                continue
            if runs and runs[-1].key == _identity(item):
                runs[-1].names.append(name)
            else:
                runs.append(_Run(_identity(item), item, [name]))
    bars = [_bar(run, path, before) for run, before in zip(runs, [None, *runs], strict=False)]
    gone = bars[-1].first if len(bars) > 1 and bars[-1].version is None else None
    return Versions(token_of(path), len(points) - len(unreadable), bars, gone, unreadable)


def _look(folder: HostFolder, kind: Kind, name: str, path: bytes) -> Item | None:
    held = hold_point(folder, kind, name)
    try:
        return PointTree(held).look(path)
    except PathMissing:
        return None
    finally:
        os.close(held)


def _identity(item: Item | None) -> Hashable:
    """What two restore points have to have in common to hold the same version.

    Folders and links are made anew in each snapshot, so for them it is not the inode.
    """
    if item is None or item.status is None:
        return item and item.kind
    status = item.status
    attributes = (item.kind, status.st_mode, status.st_uid, status.st_gid)
    if item.kind == "folder":
        return attributes
    if item.kind == "link":
        return (*attributes, item.target)
    return (item.kind, status.st_dev, status.st_ino)


def _bar(run: _Run, path: bytes, before: _Run | None) -> Bar:
    version = entry_of(run.item, parent_of(path)[0]) if run.item else None
    old = before.item.status if before and before.item else None
    new = run.item.status if run.item else None
    same = old and new and (old.st_size, old.st_mtime_ns) == (new.st_size, new.st_mtime_ns)
    return Bar(run.names[0], run.names[-1], len(run.names), version, only_attributes=bool(same))
