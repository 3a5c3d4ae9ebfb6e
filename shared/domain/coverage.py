"""What still covers the day of a restore point that goes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from datetime import datetime

from shared.domain.event import Kind, Quality
from shared.domain.restore_points import Point


class Coverage:
    """The complete snapshots and golden copies that stay. `kept` are oldest first, and none is of the future."""

    def __init__(self, kept: Sequence[Point], day: Callable[[datetime], str]) -> None:
        self._kept = [point for point in kept if _covers(point)]
        self._slots = [point.slot for point in self._kept]
        self._day = day
        self._first_of: dict[str, Point] = {}
        for point in self._kept:
            of_day = day(point.slot)
            self._first_of.setdefault(of_day, point)
            self._first_of.setdefault(of_day[:7], point)

    def of(self, point: Point) -> tuple[str, ...]:
        """The keys of what covers the day of a point that goes, the nearest first."""
        if point.kind is not Kind.SNAPSHOT:
            return tuple(near.key for near in self._neighbours(point.slot)[:1])
        day = self._day(point.slot)
        first = self._first_of.get(day) or self._first_of.get(day[:7])
        if first is not None:
            return (first.key,)
        return tuple(near.key for near in self._neighbours(point.slot))

    def _neighbours(self, slot: datetime) -> list[Point]:
        """The last before and the first at or after a slot, the nearer one first, the older one of equals."""
        place = bisect_left(self._slots, slot)
        around = self._kept[max(place - 1, 0) : place + 1]
        return sorted(around, key=lambda near: abs(near.slot - slot))


def _covers(point: Point) -> bool:
    return point.kind is not Kind.ARCHIVE and point.quality is Quality.COMPLETE
