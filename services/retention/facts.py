"""What the drive adds to the facts of the log: what points where, what is in use, what only one of them knows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import msgspec

from shared.adapters.restore_points import archives, foreign, golden_copies
from shared.adapters.store import HostFolder
from shared.adapters.trash import Trashed, contents, is_in_use
from shared.domain.events import Kind
from shared.domain.host_state import HostState, point_key
from shared.domain.inventory import facts_of_log
from shared.domain.names import SnapshotName
from shared.domain.restore_points import Facts


@dataclass(frozen=True, slots=True)
class Drive:
    """What a host's folder held when it was looked at. `points` and `in_use` are keys, `foreign` are paths."""

    points: frozenset[str]
    in_use: frozenset[str]
    current: str | None
    latest: str | None
    trash: tuple[Trashed, ...]
    foreign: tuple[str, ...]


def look_at_drive(folder: HostFolder) -> Drive:
    """Look at the host's folder. Raises OSError when the drive fails; moves to the trash that were cut short end."""
    trash = tuple(contents(folder))
    names = [
        *((Kind.SNAPSHOT, snapshot.name) for snapshot in folder.snapshots()),
        *((Kind.ARCHIVE, archive.name) for archive in archives(folder)),
        *((Kind.GOLDEN, copy.name) for copy in golden_copies(folder)),
    ]
    return Drive(
        points=frozenset(point_key(kind, name) for kind, name in names),
        in_use=frozenset(point_key(kind, name) for kind, name in names if is_in_use(folder, kind, name)),
        current=_target(folder, "current"),
        latest=_target(folder, "latest"),
        trash=trash,
        foreign=tuple(foreign(folder)),
    )


def facts_of(state: HostState, drive: Drive, policy_changed_at: datetime | None, now: datetime) -> Facts:
    """The facts of a plan. What the trash holds counts for neither side."""
    told = facts_of_log(state, now)
    known = {point.key for point in told.points}
    trashed = {point.key for point in drive.trash}
    return msgspec.structs.replace(
        told,
        current=drive.current or told.current,
        latest=drive.latest or told.latest,
        in_use=drive.in_use,
        not_on_drive=_sorted(known - drive.points - trashed),
        not_in_log=_sorted(drive.points - known),
        policy_changed_at=policy_changed_at,
    )


def _target(folder: HostFolder, link: str) -> SnapshotName | None:
    target = folder.link_target(link)
    return None if target is None else SnapshotName(target.removeprefix("hourly/"))


def _sorted(keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(keys))
