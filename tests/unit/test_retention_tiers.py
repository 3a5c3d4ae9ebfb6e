"""What the tiers promise is what stays, no more and no less, today and after any number of earlier plans."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.domain.calendar_days import months_later
from shared.domain.events import Kind, Quality
from shared.domain.policy import Policy
from shared.domain.retention import Facts, Hold, Point, plan
from tests.support.histories import NOWS, ZONES, Digits, History, histories, point_of, policy_of
from tests.support.retention_rules import counted, end_of_months, guarded, promised

thoroughly = settings(max_examples=2000, deadline=None)
numbers = st.integers(0, 2**24 - 1)
NESTED = (
    Policy(),
    Policy(hourly_hours=48, daily_days=20, monthly_months=3),
    Policy(hourly_hours=0, daily_days=3, monthly_months=2),
)
"""Here each tier outlives the one before by more than a day or a month: what went early would have gone anyway."""


def local_day(point: Point, history: History) -> str:
    return f"{point.slot.astimezone(ZoneInfo(history.policy.time_zone)):%Y-%m-%d}"


@thoroughly
@given(histories)
def test_what_stays_is_what_is_promised_or_protected(history: History) -> None:
    expected = promised(history.facts.points, history.policy, history.now)
    protected = set().union(*guarded(history.facts, history.now, history.hold).values())
    kept = {verdict.point.key for verdict in history.plan().verdicts if verdict.keep}
    assert kept == expected | protected
    by_tier = {v.point.key for v in history.plan().verdicts if v.tier not in {"expired", "future"}}
    assert by_tier == expected


@thoroughly
@given(histories, numbers)
def test_every_point_has_a_verdict_with_reasons_and_the_order_they_come_in_changes_nothing(
    history: History, seed: int
) -> None:
    made = history.plan()
    assert sorted(verdict.point.key for verdict in made.verdicts) == sorted(p.key for p in history.facts.points)
    slots = [verdict.point.slot for verdict in made.verdicts]
    assert slots == sorted(slots)
    assert all(verdict.reasons and all(verdict.reasons) for verdict in made.verdicts)
    points = list(history.facts.points)
    random.Random(seed).shuffle(points)  # noqa: S311  # nothing here is secret
    shuffled = msgspec.structs.replace(history.facts, points=tuple(points))
    assert plan(shuffled, history.policy, history.now, history.hold) == made


@thoroughly
@given(histories)
def test_what_goes_is_covered_by_what_stays(history: History) -> None:
    made = history.plan()
    stays = counted((verdict.point for verdict in made.verdicts if verdict.keep), history.now)
    covers = {p.key: p for p in stays if p.kind is not Kind.ARCHIVE and p.quality is Quality.COMPLETE}
    for verdict in made.verdicts:
        keys, point = verdict.covered_by, verdict.point
        assert set(keys) <= set(covers)
        assert bool(keys) is (bool(covers) and not verdict.keep)
        if not keys:
            continue
        gaps = [abs(covers[key].slot - point.slot) for key in keys]
        nearest = min(abs(cover.slot - point.slot) for cover in covers.values())
        same_day = [p.slot for p in covers.values() if local_day(p, history) == local_day(point, history)]
        same_month = [p.slot for p in covers.values() if local_day(p, history)[:7] == local_day(point, history)[:7]]
        if point.kind is Kind.SNAPSHOT and (same_day or same_month):
            assert [covers[key].slot for key in keys] == [min(same_day or same_month)]
        else:
            assert gaps == sorted(gaps)
            assert gaps[0] == nearest
            sides = {p.slot < point.slot for p in covers.values()}
            assert len(keys) == (len(sides) if point.kind is Kind.SNAPSHOT else 1)
            assert len({covers[key].slot < point.slot for key in keys}) == len(keys)


@thoroughly
@given(st.lists(numbers, min_size=5, max_size=14), numbers, st.lists(st.integers(1, 1000), max_size=6))
def test_no_plan_takes_what_a_later_moment_still_promises(codes: list[int], other: int, waits: list[int]) -> None:
    digits = Digits(other)
    now, policy = digits.pick(NOWS), policy_of(digits)
    ever = arriving(codes, now)
    gone: set[str] = set()
    for wait in waits:
        now += timedelta(hours=wait)
        assert not gone & promised(ever, policy, now)
        there = tuple(point for point in ever if point.key not in gone)
        gone |= {verdict.point.key for verdict in plan(Facts(points=there), policy, now).removals}


@thoroughly
@given(st.lists(numbers, min_size=5, max_size=14), numbers, st.lists(st.integers(1, 400), max_size=6))
def test_many_plans_leave_what_one_leaves(codes: list[int], other: int, waits: list[int]) -> None:
    digits = Digits(other)
    start, short, zone = digits.pick(NOWS), digits.pick(NESTED), digits.pick(ZONES)
    policy = msgspec.structs.replace(short, time_zone=zone)
    ever = arriving(codes, start + timedelta(days=60))
    moments = [start + timedelta(hours=sum(waits[: n + 1])) for n in range(len(waits))]
    assert left_after(ever, policy, moments) == left_after(ever, policy, moments[-1:])


def left_after(ever: Sequence[Point], policy: Policy, moments: Sequence[datetime]) -> set[str]:
    """What is there after a plan was carried out at each of these moments; each point comes at its slot."""
    gone: set[str] = set()
    for now in moments:
        there = tuple(point for point in ever if point.key not in gone and point.slot <= now)
        gone |= {verdict.point.key for verdict in plan(Facts(points=there), policy, now).removals}
    return {point.key for point in ever} - gone


def arriving(codes: Sequence[int], now: datetime) -> list[Point]:
    """Points without those of a far future, each of its own name."""
    points = [point_of(code, now, number) for number, code in enumerate(codes)]
    return list({point.key: point for point in points}.values())


@thoroughly
@given(
    st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  # given its zone by the next argument
    st.integers(0, 60),
    st.sampled_from(ZONES),
)
def test_months_end_where_the_slow_rule_says(slot: datetime, months: int, zone: str) -> None:
    assert months_later(slot, months, ZoneInfo(zone)) == end_of_months(slot, months, ZoneInfo(zone))


def sized(size: int, zone: str = "UTC") -> Policy:
    return Policy(
        hourly_hours=size,
        daily_days=size,
        monthly_months=size,
        archive_days=size,
        golden_months=size,
        time_zone=zone,
    )


def test_the_ends_of_time_break_nothing() -> None:
    slots = [datetime(1, 1, 1, tzinfo=UTC), datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 31, 23, tzinfo=UTC)]
    points = tuple(Point(kind=kind, name=f"{slot:%F}", slot=slot) for slot in slots for kind in Kind)
    for zone in ZONES:
        for size in (0, 10**9, 10**30):
            policy = sized(size, zone)
            made = plan(Facts(points=points), policy, datetime(9999, 12, 31, tzinfo=UTC))
            assert len(made.verdicts) == len(points)
            assert bool(made.removals) is (size == 0)


def test_a_policy_of_less_than_nothing_keeps_what_is_protected() -> None:
    now = NOWS[0]
    points = tuple(Point(kind=Kind.SNAPSHOT, name=str(n), slot=now - timedelta(hours=n)) for n in range(9))
    for size in (-1, -(10**30)):
        assert len(plan(Facts(points=points), sized(size), now).removals) == 6


def test_a_pinned_snapshot_that_lies_about_its_time_holds_up_to_the_later_of_both() -> None:
    now, day = datetime(2026, 3, 10, 12, tzinfo=UTC), timedelta(days=1)
    for slot, name in ((now - 9 * day, "2026-03-05_1200"), (now - 5 * day, "2026-03-01_1200")):
        pinned = Point(kind=Kind.SNAPSHOT, name=name, slot=slot)
        others = [Point(kind=Kind.ARCHIVE, name=str(days), slot=now - days * day) for days in (0, 4, 5, 9)]
        made = plan(Facts(points=(pinned, *others)), sized(0), now, Hold("odd", name))
        assert [verdict.point.name for verdict in made.removals] == ["4"]
