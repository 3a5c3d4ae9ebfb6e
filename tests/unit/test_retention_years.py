"""Five years of one host in each of five zones: in the end exactly what the tiers promise is left.

The storage machine is off now and then, snapshots fail or come out suspect, the clock jumps forward and back. Big
plans wait for an operator. Before every removal the guards are looked up anew. What is promised is counted from
everything that was ever taken.

With the short policy retention runs every 4 hours. With the policy people get by default, whose hosts hold a
thousand points, it runs every 76 hours, at changing hours of the day: that this leaves the same is a property of
its own (test_retention_tiers.py: many plans leave what one leaves).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import pytest

from shared.domain.events import Kind, Quality
from shared.domain.names import snapshot_name
from shared.domain.policy import Policy
from shared.domain.retention import Facts, Point, RetentionPlan, plan
from tests.support.retention_rules import complete, guarded, promised

START: Final = datetime(2024, 1, 1, tzinfo=UTC)
END: Final = datetime(2029, 1, 1, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
ZONES: Final = ("Europe/Berlin", "America/St_Johns", "Pacific/Apia", "Africa/Casablanca", "Australia/Lord_Howe")
SHORT: Final = Policy(hourly_hours=24, daily_days=14, monthly_months=6, archive_days=1, golden_months=6)
LONG: Final = Policy()
OUTCOMES: Final = (None, Quality.SUSPECT, Quality.DEGRADED, Quality.COMPLETE)
WEIGHTS: Final = (4, 2, 3, 91)


@dataclass(slots=True)
class Host:
    """A host, its operator and the machine that stores it. `ever` is all that was taken, `there` what is left."""

    policy: Policy
    dice: random.Random
    ever: dict[str, Point] = field(default_factory=dict)
    there: dict[str, Point] = field(default_factory=dict)
    clock_error: timedelta = timedelta(0)
    off_until: datetime = START
    bad_until: datetime = START
    jumped_until: datetime = START
    refused_big: int = 0
    refused_clock: int = 0
    removed: int = 0

    def live(self, retention_hours: int) -> None:
        """Hour after hour, until the end."""
        for number, now in enumerate(hours()):
            self.suffer(now)
            if now < self.off_until:
                continue
            self.back_up(now + self.clock_error, number)
            if number % (4 if self.clock_error else retention_hours) == 0:
                self.thin_out(now + self.clock_error)

    def suffer(self, now: datetime) -> None:
        """About every second month the machine is off, as often the host is half broken; the clock jumps yearly."""
        chance = self.dice.random()
        if chance < 1 / 1500:
            self.off_until = now + HOUR * self.dice.choice((5, 30, 100, 700))
        elif chance < 2 / 1500:
            self.bad_until = now + HOUR * self.dice.choice((12, 60, 900))
        elif chance < 2 / 1500 + 1 / 8000:
            self.clock_error = timedelta(hours=self.dice.choice((-3000, -50, -7, 9, 200, 900)), minutes=17)
            self.jumped_until = now + HOUR * self.dice.choice((3, 40, 90))
        elif now >= self.jumped_until:
            self.clock_error = timedelta(0)

    def back_up(self, now: datetime, number: int) -> None:
        """A snapshot every hour, an archive every 4, a golden copy about monthly; now and then one is verified."""
        outcome = self.dice.choices(OUTCOMES, WEIGHTS)[0]
        if outcome is Quality.COMPLETE and now < self.bad_until:
            outcome = Quality.DEGRADED
        if outcome is not None:
            self.take(Point(kind=Kind.SNAPSHOT, name=snapshot_name(now), slot=now, quality=outcome))
        if number % 4 == 0:
            self.take(Point(kind=Kind.ARCHIVE, name=snapshot_name(now), slot=now))
        if number % 725 == 0:
            self.take(Point(kind=Kind.GOLDEN, name=snapshot_name(now), slot=now))
        if number % 216 == 0 and (whole := complete(self.there.values())):
            newest = max(whole, key=lambda point: point.slot)
            self.there[newest.key] = self.ever[newest.key] = msgspec.structs.replace(newest, verified=True)

    def take(self, point: Point) -> None:
        if point.key not in self.ever:
            self.ever[point.key] = self.there[point.key] = point

    def thin_out(self, now: datetime) -> None:
        """Plan, let an operator confirm what is big, remove."""
        facts = self.facts(now)
        made = plan(facts, self.policy, now)
        if facts.clock_doubt:
            assert made.refused
            self.refused_clock += 1
            return
        if made.refused:
            self.refused_big += 1
            agreed = frozenset(verdict.point.key for verdict in made.removals)
            assert len(agreed) > max(2, len(self.there) / 10) or self.holds_the_future(now)
            facts = msgspec.structs.replace(facts, confirmed=agreed, confirmed_at=now)
            made = plan(facts, self.policy, now)
        self.remove(made, facts, now)

    def facts(self, now: datetime) -> Facts:
        whole = [point for point in complete(self.there.values()) if point.slot <= now]
        current = max(whole, key=lambda point: point.slot).name if whole else None
        doubt = "it jumped" if self.clock_error else ""
        return Facts(points=tuple(self.there.values()), current=current, latest=current, clock_doubt=doubt)

    def holds_the_future(self, now: datetime) -> bool:
        return any(point.slot > now for point in self.there.values())

    def remove(self, made: RetentionPlan, facts: Facts, now: datetime) -> None:
        assert made.refused == ()
        gone = {verdict.point.key for verdict in made.removals}
        if gone:
            assert not gone & set().union(*guarded(facts, now, None).values())
        for key in gone:
            del self.there[key]
        self.removed += len(gone)

    def check(self, now: datetime) -> None:
        """What is left is what is promised of all that was ever taken, and what a guard protects."""
        self.thin_out(now)
        protected = set().union(*guarded(self.facts(now), now, None).values())
        assert set(self.there) == promised(self.ever.values(), self.policy, now) | protected


def hours() -> Iterator[datetime]:
    for number in range(int((END - START) / HOUR)):
        yield START + HOUR * number


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(("policy", "retention_hours"), [(SHORT, 4), (LONG, 76)], ids=["short", "default"])
def test_after_five_years_exactly_what_was_promised_is_left(zone: str, policy: Policy, retention_hours: int) -> None:
    dice = random.Random(zone)  # noqa: S311  # the same five years each time
    host = Host(msgspec.structs.replace(policy, time_zone=zone), dice)
    host.live(retention_hours)
    host.clock_error = timedelta(0)
    host.check(END)
    assert len(host.ever) > 40_000
    assert host.removed + len(host.there) == len(host.ever)
    assert host.refused_big
    assert host.refused_clock
