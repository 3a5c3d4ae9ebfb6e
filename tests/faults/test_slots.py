"""Daylight saving and sleep: slots are UTC, days those of the zone, and no slot is skipped or done twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from shared.domain.events import Job, Kind, Quality
from shared.domain.names import snapshot_name
from shared.domain.policy import Policy
from shared.domain.restore_points import Facts, Point
from shared.domain.retention import plan
from shared.domain.schedule import Cadence, due_ticks
from tests.support.builders import HOST, MAIN, SLOT
from tests.support.thinning import DAY, HOUR

ZONES: Final = {
    "Europe/Berlin": (datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)),
    "America/New_York": (datetime(2026, 3, 8, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)),
    "Australia/Lord_Howe": (datetime(2026, 4, 4, tzinfo=UTC), datetime(2026, 10, 3, tzinfo=UTC)),
    "America/Santiago": (datetime(2026, 4, 5, tzinfo=UTC), datetime(2026, 9, 6, tzinfo=UTC)),
    "Africa/Casablanca": (datetime(2026, 2, 15, tzinfo=UTC), datetime(2026, 3, 22, tzinfo=UTC)),
}
MINUTE: Final = timedelta(minutes=1)


def slots_done(begin: datetime, minutes: list[datetime]) -> list[datetime]:
    """The slots that are done when somebody looks at these moments."""
    cadence, done = Cadence(Job.SNAPSHOT, HOST, MAIN, 1), list[datetime]()
    settled: dict[tuple[Job, Any], datetime] = {}
    for now in minutes:
        for tick in due_ticks([cadence], settled, now, begin):
            done.append(tick.slot)
            settled[Job.SNAPSHOT, HOST] = tick.slot
    return done


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("way", [0, 1])
def test_when_the_zone_changes_its_clocks_each_hour_has_one_slot_and_each_day_keeps_its_first(
    zone: str, way: int
) -> None:
    changes, here = ZONES[zone][way], ZoneInfo(zone)
    begin = changes - 2 * DAY
    assert len({(begin + hours * HOUR).astimezone(here).utcoffset() for hours in range(4 * 24)}) == 2, "no change"
    slots = slots_done(begin, [begin + minutes * MINUTE for minutes in range(4 * 24 * 60)])
    assert slots == [begin + hours * HOUR for hours in range(4 * 24)]
    names = [snapshot_name(slot) for slot in slots]
    assert len(set(names)) == len(names)

    points = tuple(
        Point(kind=Kind.SNAPSHOT, name=snapshot_name(slot), slot=slot, quality=Quality.COMPLETE) for slot in slots
    )
    policy = Policy(hourly_hours=1, daily_days=30, monthly_months=12, time_zone=zone)
    made = plan(Facts(points=points), policy, begin + 20 * DAY)
    kept = {verdict.point.name for verdict in made.verdicts if verdict.keep}
    first_of: dict[str, str] = {}
    for slot in slots:
        first_of.setdefault(f"{slot.astimezone(here):%Y-%m-%d}", snapshot_name(slot))
    assert set(first_of.values()) <= kept
    assert kept - set(first_of.values()) <= set(names[-3:])  # the floor


@pytest.mark.parametrize("asleep", [timedelta(minutes=40), 8 * HOUR, 5 * DAY])
def test_after_a_sleep_the_newest_slot_is_done_once_and_no_other_is_made_up_for(asleep: timedelta) -> None:
    begin = SLOT + 10 * MINUTE
    before = [begin + minutes * MINUTE for minutes in range(100)]
    wakes = before[-1] + asleep
    after = [wakes + minutes * MINUTE for minutes in range(100)]
    slots = slots_done(begin, before + after)
    assert len(set(slots)) == len(slots)
    assert slots == sorted(slots)
    awake = {moment.replace(minute=0) for moment in before + after}
    assert set(slots) == awake
