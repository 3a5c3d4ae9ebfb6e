"""What the drive adds to the facts of the log: what points where, what is in use, what only one of them knows."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import msgspec

from shared.adapters.held_locks import held_places, place_of
from shared.adapters.restore_points import FOLDERS, archives, foreign, golden_copies
from shared.adapters.store import HostFolder
from shared.adapters.trash import Trashed, contents
from shared.domain.events import Kind
from shared.domain.host_state import HostState, point_key
from shared.domain.inventory import facts_of_log
from shared.domain.names import SnapshotName
from shared.domain.restore_points import Facts


@dataclass(frozen=True, slots=True)
class Drive:
    """What a host's folder held when it was looked at. `points` and `in_use` are keys, `foreign` are paths.

    `in_use` is what the kernel told; removing takes the lock itself.
    """

    points: frozenset[str]
    in_use: frozenset[str]
    current: str | None
    latest: str | None
    trash: tuple[Trashed, ...]
    foreign: tuple[str, ...]


def look_at_drive(folder: HostFolder, *, finish_moves: bool) -> Drive:
    """Look at the host's folder. Raises OSError when the drive fails.

    Moves to the trash that were cut short are finished only for who holds the host's lock.
    """
    trash = tuple(contents(folder, finish_moves=finish_moves))
    names = [
        *((Kind.SNAPSHOT, snapshot.name) for snapshot in folder.snapshots()),
        *((Kind.ARCHIVE, archive.name) for archive in archives(folder)),
        *((Kind.GOLDEN, copy.name) for copy in golden_copies(folder)),
    ]
    return Drive(
        points=frozenset(point_key(kind, name) for kind, name in names),
        in_use=_in_use(folder, names),
        current=_target(folder, "current"),
        latest=_target(folder, "latest"),
        trash=trash,
        foreign=tuple(foreign(folder)),
    )


def facts_of(state: HostState, drive: Drive, policy_changed_at: datetime | None, now: datetime) -> Facts:
    """The facts of a plan. What lies only in the trash is no point, whatever the log has heard by now."""
    told = facts_of_log(state, now)
    trashed = {point.key for point in drive.trash} - drive.points
    points = tuple(point for point in told.points if point.key not in trashed)
    known = {point.key for point in points}
    return msgspec.structs.replace(
        told,
        points=points,
        current=drive.current or told.current,
        latest=drive.latest or told.latest,
        in_use=drive.in_use,
        not_on_drive=_sorted(known - drive.points),
        not_in_log=_sorted(drive.points - known),
        policy_changed_at=policy_changed_at,
    )


def _in_use(folder: HostFolder, names: Iterable[tuple[Kind, str]]) -> frozenset[str]:
    held = held_places()
    found = set()
    for kind, name in names:
        with suppress(FileNotFoundError):
            status = os.stat(f"{FOLDERS[kind]}/{name}", dir_fd=folder.descriptor, follow_symlinks=False)
            if place_of(status) in held:
                found.add(point_key(kind, name))
    return frozenset(found)


def _target(folder: HostFolder, link: str) -> SnapshotName | None:
    target = folder.link_target(link)
    return None if target is None else SnapshotName(target.removeprefix("hourly/"))


def _sorted(keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(keys))
