"""Which tier keeps a restore point by its age, and in words why none does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from shared.domain.calendar_days import local_day, months_later
from shared.domain.event import Kind, Quality
from shared.domain.policy import Policy
from shared.domain.restore_points import BEST_FIRST, Point

EXPIRED: Final = "expired"
FUTURE: Final = "future"


class Standing(msgspec.Struct, frozen=True):
    """The first tier that keeps a point and all of them in words; or `expired` and in words why none does."""

    tier: str
    reasons: tuple[str, ...]


class Tiers:
    """The tiers of one host at one moment. `points` are oldest first, and none is of the future."""

    def __init__(self, points: Sequence[Point], policy: Policy, now: datetime) -> None:
        self._policy = policy
        self._now = now
        self._zone = ZoneInfo(policy.time_zone)
        self._hourly = _length(policy.hourly_hours)
        self._daily = _length(policy.daily_days * 24)
        self._archive = _length(policy.archive_days * 24)
        self._limits = (
            _count(policy.hourly_hours, "hour"),
            _count(policy.daily_days, "day"),
            _count(policy.monthly_months, "month"),
        )
        self._first_of: dict[str, Point] = {}
        self._days: dict[datetime, str] = {}
        for point in points:
            if point.kind is Kind.SNAPSHOT:
                day = self.day(point.slot)
                # What does not stand for its day does not stand for its month either.
                if self._stands_for(day, point):
                    self._stands_for(day[:7], point)

    def day(self, slot: datetime) -> str:
        """The day of a slot in the policy's time zone."""
        found = self._days.get(slot)
        if found is None:
            found = self._days[slot] = local_day(slot, self._zone)
        return found

    def standing(self, point: Point) -> Standing:
        """Where the tiers put a point."""
        match point.kind:
            case Kind.SNAPSHOT:
                return self._snapshot(point)
            case Kind.ARCHIVE:
                if self._now - point.slot <= self._archive:
                    return Standing("archive", ("archive",))
                return Standing(EXPIRED, (f"older than {_count(self._policy.archive_days, 'day')}",))
            case Kind.GOLDEN:
                if self._now <= months_later(point.slot, self._policy.golden_months, self._zone):
                    return Standing("golden", ("golden",))
                return Standing(EXPIRED, (f"older than {_count(self._policy.golden_months, 'month')}",))

    def _stands_for(self, period: str, point: Point) -> bool:
        """Whether this point, later than those before it, is the first of the best of its day or month so far."""
        first = self._first_of.get(period)
        # A degraded or suspect one stands for its day only as long as there is nothing better: more than nothing.
        if first is not None and not _is_better(point.quality, first.quality):
            return False
        self._first_of[period] = point
        return True

    def _snapshot(self, point: Point) -> Standing:
        day = self.day(point.slot)
        age = self._now - point.slot
        kept = [("hourly", "hourly")] if age <= self._hourly else []
        if self._first_of[day] is point:
            kept += self._as_first(point, day, age)
        if kept:
            return Standing(kept[0][0], tuple(reason for _, reason in kept))
        return Standing(EXPIRED, (self._why_expired(point, day, day[:7]),))

    def _as_first(self, point: Point, day: str, age: timedelta) -> Iterator[tuple[str, str]]:
        """The tiers that keep the first of a day, each with its reason."""
        month = day[:7]
        if age <= self._daily:
            yield "daily", _standing_for("daily", day, point)
        if self._first_of[month] is point and self._now <= self._monthly_end(point.slot):
            yield "monthly", _standing_for("monthly", month, point)

    def _monthly_end(self, slot: datetime) -> datetime:
        return months_later(slot, self._policy.monthly_months, self._zone)

    def _why_expired(self, point: Point, day: str, month: str) -> str:
        hours, days, months = self._limits
        if self._first_of[day] is not point:
            return f"older than {hours} and {_not_first(point, self._first_of[day], day)}"
        if self._first_of[month] is not point:
            return f"older than {hours} and {days}, and {_not_first(point, self._first_of[month], month)}"
        return f"older than {hours}, {days} and {months}"


def _is_better(quality: Quality, other: Quality) -> bool:
    return quality is not other and BEST_FIRST[quality] < BEST_FIRST[other]


def _standing_for(tier: str, period: str, point: Point) -> str:
    return f"{tier} {period}" if point.quality is Quality.COMPLETE else f"only one of {period}"


def _not_first(point: Point, first: Point, period: str) -> str:
    return f"not the first of {period}" if first.quality is point.quality else f"{period} has a {first.quality} one"


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}" if number == 1 else f"{number} {unit}s"


def _length(hours: int) -> timedelta:
    """So many hours; more than a timedelta can say is for ever."""
    try:
        return timedelta(hours=hours)
    except OverflowError:
        return timedelta.max if hours > 0 else timedelta.min
