"""What must not be removed, whatever a tier says (DESIGN section 7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import chain

from shared.domain.errors import NameRefused
from shared.domain.event import Kind, Quality
from shared.domain.host_state import point_key
from shared.domain.names import parse_snapshot_name
from shared.domain.policy import FLOOR
from shared.domain.restore_points import Facts, Hold, Point, is_future


def protections(points: Sequence[Point], facts: Facts, now: datetime, hold: Hold | None) -> dict[str, list[str]]:
    """By key, every guard that protects a point. `points` are oldest first."""
    counted = [point for point in points if not is_future(point.slot, now)]
    reasons: dict[str, list[str]] = {}
    for key, reason in chain(_newest(counted), _named(facts), _held(points, hold)):
        reasons.setdefault(key, []).append(reason)
    return reasons


def _newest(points: Sequence[Point]) -> Iterator[tuple[str, str]]:
    snapshots = [point for point in points if point.kind is Kind.SNAPSHOT]
    complete = [point for point in snapshots if point.quality is Quality.COMPLETE]
    for point in complete[-1:]:
        yield point.key, "newest complete"
    for point in _newest_ones([point for point in snapshots if point.verified]):
        yield point.key, "newest verified"
    for kind in (Kind.ARCHIVE, Kind.GOLDEN):
        for point in _newest_ones([point for point in points if point.kind is kind]):
            yield point.key, f"newest {kind}"
    for point in complete[-FLOOR:]:
        yield point.key, "floor"


def _newest_ones(points: list[Point]) -> list[Point]:
    """The newest and, where that one is not complete, the newest complete one too: it is worth more."""
    complete = [point for point in points if point.quality is Quality.COMPLETE]
    return points[-1:] if complete[-1:] == points[-1:] else [*complete[-1:], *points[-1:]]


def _named(facts: Facts) -> Iterator[tuple[str, str]]:
    if facts.current is not None:
        yield point_key(Kind.SNAPSHOT, facts.current), "current"
    if facts.latest is not None:
        yield point_key(Kind.SNAPSHOT, facts.latest), "latest"
    for key in facts.in_use:
        yield key, "in use"
    for key in facts.undeleted:
        yield key, "undeleted"


def _held(points: Sequence[Point], hold: Hold | None) -> Iterator[tuple[str, str]]:
    if hold is None:
        return
    until = _held_until(points, hold)
    for point in points:
        if until is None or point.slot <= until:
            yield point.key, "held"


def _held_until(points: Sequence[Point], hold: Hold) -> datetime | None:
    """The newest slot that a hold protects; None when nobody can tell, and then it protects everything."""
    slots = [point.slot for point in points if point.kind is Kind.SNAPSHOT and point.name == hold.pinned]
    with suppress(NameRefused):  # then it has to be among the points
        slots.append(parse_snapshot_name(hold.pinned or ""))
    return max(slots, default=None)
