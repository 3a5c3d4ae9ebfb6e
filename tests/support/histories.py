"""Arbitrary hosts for properties of the retention, made of a few integers so that thousands are cheap.

Each integer is taken apart digit by digit: zeros give plain histories, and Hypothesis shrinks towards them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from hypothesis import strategies as st

from shared.domain.events import Kind, Quality
from shared.domain.names import snapshot_name
from shared.domain.policy import Policy
from shared.domain.retention import Facts, Hold, Point, RetentionPlan, plan

T = TypeVar("T")
ZONES: Final = (
    "UTC",
    "Europe/Berlin",
    "Pacific/Apia",
    "Africa/Casablanca",
    "America/St_Johns",
    "Australia/Lord_Howe",
)
NOWS: Final = (
    datetime(2026, 3, 10, 12, tzinfo=UTC),
    datetime(2026, 3, 29, 1, 30, tzinfo=UTC),
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2012, 1, 2, 10, tzinfo=UTC),
    datetime(2028, 2, 29, 23, tzinfo=UTC),
    datetime(2029, 2, 28, 23, 59, tzinfo=UTC),
    datetime(2010, 11, 8, 2, 31, tzinfo=UTC),
)
HOURS: Final = (0, 1, 0, 48, 0, 720, 100)
DAYS: Final = (0, 2, 10, 0, 30, 180)
MONTHS: Final = (0, 1, 0, 2, 24)
KINDS: Final = (Kind.SNAPSHOT,) * 5 + (Kind.ARCHIVE,) * 2 + (Kind.GOLDEN,)
QUALITIES: Final = (Quality.COMPLETE,) * 4 + (Quality.DEGRADED, Quality.SUSPECT)
MOMENTS: Final = (
    None,
    timedelta(0),
    timedelta(hours=1),
    timedelta(hours=24),
    timedelta(hours=24, seconds=1),
    -timedelta(seconds=1),
)
"""How long ago something was said, if ever."""


@dataclass(frozen=True, slots=True)
class History:
    """Everything a plan is made of."""

    facts: Facts
    policy: Policy
    now: datetime
    hold: Hold | None = None

    def plan(self) -> RetentionPlan:
        return plan(self.facts, self.policy, self.now, self.hold)

    def removed(self) -> set[str]:
        return {verdict.point.key for verdict in self.plan().removals}


class Digits:
    """An integer that is taken apart."""

    def __init__(self, code: int) -> None:
        self.code = code

    def below(self, limit: int) -> int:
        self.code, digit = divmod(self.code, limit)
        return digit

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]


def point_of(code: int, now: datetime, number: int) -> Point:
    """A restore point; minutes, hours, days or months old, some of the future."""
    digits = Digits(code)
    kind, quality = digits.pick(KINDS), digits.pick(QUALITIES)
    verified = digits.below(4) == 3
    unit = digits.pick((timedelta(hours=1), timedelta(hours=6), timedelta(days=1), timedelta(days=30, hours=10)))
    slot = now - unit * digits.below(60)
    ahead = digits.below(12)
    if ahead >= 10:
        slot = now + timedelta(minutes=5, seconds=digits.pick((0, 1, 3600, 10**6)))
    name = snapshot_name(slot) if digits.below(4) else f"copy-{number}"
    return Point(kind=kind, name=name, slot=slot, quality=quality, verified=verified)


def policy_of(digits: Digits) -> Policy:
    return Policy(
        hourly_hours=digits.pick(HOURS),
        daily_days=digits.pick(DAYS),
        monthly_months=digits.pick(MONTHS),
        archive_days=digits.pick(DAYS),
        golden_months=digits.pick(MONTHS),
        time_zone=digits.pick(ZONES),
    )


def history_of(codes: Sequence[int], others: Sequence[int]) -> History:
    """A host with these points; what else is known of it comes from the other integers."""
    digits = Digits(sum(code << 24 * place for place, code in enumerate(others)))
    now = digits.pick(NOWS)
    codes = codes[: digits.below(5)] if digits.below(8) == 7 else codes
    points = tuple({point.key: point for point in (point_of(each, now, n) for n, each in enumerate(codes))}.values())
    policy = policy_of(digits)
    names = [None, None, "unknown", *(point.name for point in points)]
    pins = [*names, "2026-02-30_0000", snapshot_name(now - timedelta(days=3))]
    facts = Facts(
        points=points,
        current=digits.pick(names),
        latest=digits.pick(names),
        in_use=_some(points, digits),
        clock_doubt=digits.pick(("", "", "", "", "", "it jumped")),
        not_on_drive=digits.pick(((), (), (), (), (), ("snapshot/gone",))),
        not_in_log=digits.pick(((), (), (), (), (), ("archive/found",))),
        policy_changed_at=_moment(digits, now),
        confirmed=_some(points, digits) if digits.below(2) else frozenset(point.key for point in points),
        confirmed_at=_moment(digits, now),
    )
    hold = Hold("why not", digits.pick(pins)) if digits.below(4) == 3 else None
    return History(facts, policy, now, hold)


def _some(points: Sequence[Point], digits: Digits) -> frozenset[str]:
    step = digits.pick((0, 0, 3, 5))
    return frozenset(point.key for point in points[::step]) if step else frozenset()


def _moment(digits: Digits, now: datetime) -> datetime | None:
    before = digits.pick(MOMENTS)
    return None if before is None else now - before


def _refused(history: History) -> bool:
    made = history.plan()
    return bool(made.refused and made.removals)


# Above 24 bits Hypothesis prefers small numbers, and the last digits would nearly always be 0.
_numbers = st.integers(0, 2**24 - 1)
histories = st.builds(history_of, st.lists(_numbers, min_size=5, max_size=18), st.tuples(_numbers, _numbers, _numbers))
refused_histories = st.builds(
    history_of, st.lists(_numbers, min_size=8, max_size=18), st.tuples(_numbers, _numbers, _numbers)
).filter(_refused)
