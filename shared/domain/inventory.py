"""From what is known of a host to the facts a retention plan is made of. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

from shared.domain.errors import NameRefused
from shared.domain.event import Kind, Quality
from shared.domain.events import Recorded, SettingsChanged
from shared.domain.host_state import CLOCKS_DIFFER, HostState, TrashedPoint, moment_of, point_key
from shared.domain.ids import moment_of_run
from shared.domain.names import parse_snapshot_name
from shared.domain.projection import CLOCK_JUMP_US
from shared.domain.restore_points import Facts, Hold, Point

UNDELETED_FOR: Final = timedelta(days=30)
"""What a person brought back from the trash is left alone for so long."""

POLICY_SETTINGS: Final = (
    "HOURLY_RETENTION_HOURS",
    "DAILY_RETENTION_DAYS",
    "RETENTION_MONTHS",
    "TAR_RETENTION_DAYS",
    "TZ",
)
"""The settings that a policy is made of."""


def facts_of_log(state: HostState, now: datetime) -> Facts:
    """What the log alone tells: the drive may know better what is in use, and what is missing."""
    complete, usable = state.newest(), _newest_usable(state)
    return Facts(
        points=points_of(state),
        current=complete.name if complete else None,
        latest=usable,
        undeleted=frozenset(key for key, us in state.undeleted.items() if now - moment_of(us) <= UNDELETED_FOR),
        clock_doubt=clock_doubt(state, now),
        confirmed=frozenset(state.confirmed),
        confirmed_at=moment_of(state.confirmed_us) if state.confirmed_us else None,
    )


def points_of(state: HostState) -> tuple[Point, ...]:
    """The restore points that the log knows to exist."""
    snapshots = [
        Point(kind=Kind.SNAPSHOT, name=found.name, slot=found.slot, quality=found.quality)
        for found in state.snapshots.values()
    ]
    archives = [Point(kind=Kind.ARCHIVE, name=found.name, slot=found.stands_for) for found in state.archives.values()]
    golden = [Point(kind=Kind.GOLDEN, name=found.name, slot=found.slot) for found in state.golden.values()]
    return (*snapshots, *archives, *golden)


def _newest_usable(state: HostState) -> str | None:
    return max((name for name, found in state.snapshots.items() if found.quality is not Quality.SUSPECT), default=None)


def hold_of(state: HostState) -> Hold | None:
    """The hold on the host, if there is one."""
    return Hold(state.hold_reason, state.pinned) if state.hold_reason else None


def clock_doubt(state: HostState, now: datetime) -> str:
    """Why the clock is not to be trusted with deleting anything; empty when it is."""
    heard = moment_of(state.recorded_us)
    # A log that has heard of a time to come stands still until then, and a clock that is behind removes nothing early.
    if now < heard - CLOCKS_DIFFER and state.recorded_us != state.clock_trusted_us:
        return f"the clock says {now:%Y-%m-%d %H:%M} UTC, but the log has heard something at {heard:%Y-%m-%d %H:%M} UTC"
    if state.clock_doubt_us is not None:
        at = moment_of(state.clock_doubt_us)
        return f"at {at:%Y-%m-%d %H:%M} UTC the clock had moved by days since the log last heard of this host"
    if state.recorded_us and (now - heard) / timedelta(microseconds=1) > CLOCK_JUMP_US:
        return f"the log has heard nothing of this host since {heard:%Y-%m-%d %H:%M} UTC"
    return ""


def policy_changed_at(settings: Iterable[Recorded], mine: Mapping[str, str], now: datetime) -> datetime | None:
    """When a setting of the policy changed last, by the events of the settings.

    `mine` are the settings of the worker that asks: when they are not those in force, they are changing now.
    """
    changed_at, in_force = None, dict[str, str]()
    for recorded in settings:
        if isinstance(recorded.event, SettingsChanged):
            in_force = recorded.event.settings
            if set(recorded.event.changed).intersection(POLICY_SETTINGS):
                changed_at = moment_of(recorded.recorded_us)
    differing = any(in_force.get(key) != mine.get(key) for key in POLICY_SETTINGS)
    return now if differing else changed_at


def purgeable(
    trash: Mapping[str, TrashedPoint], grace: timedelta, hold: Hold | None, now: datetime
) -> list[TrashedPoint]:
    """What has lain in the trash for longer than the grace period, oldest first, and is not held."""
    due = [
        trashed
        for trashed in trash.values()
        if now - _lying_since(trashed, now) > grace and not _is_held(trashed, hold, trash)
    ]
    return sorted(due, key=lambda trashed: trashed.trashed_us)


def _lying_since(trashed: TrashedPoint, now: datetime) -> datetime:
    """When a point came into the trash; where the log's time is one to come, as the clock of its run had it."""
    if trashed.trashed_at <= now + CLOCKS_DIFFER:
        return trashed.trashed_at
    return moment_of_run(trashed.run)


def _is_held(trashed: TrashedPoint, hold: Hold | None, trash: Mapping[str, TrashedPoint]) -> bool:
    if hold is None:
        return False
    pinned = None if hold.pinned is None else slot_of_pin(hold.pinned, trash)
    return pinned is None or trashed.point.slot <= pinned


def slot_of_pin(pinned: str, trash: Mapping[str, TrashedPoint]) -> datetime | None:
    """The slot of a pinned snapshot; None when its name says nothing, and then everything is held."""
    in_trash = trash.get(point_key(Kind.SNAPSHOT, pinned))
    if in_trash is not None:
        return in_trash.point.slot
    try:
        return parse_snapshot_name(pinned)
    except NameRefused:
        return None
