"""What the dashboard shows, as values: strips, drives, counts, and what is still to be set up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from services.api.drives import SPARK_HEIGHT, SPARK_WIDTH, drives, spark
from services.api.strip import STRIP_DAYS, in_a_sentence, strip
from services.api.unfinished import unfinished
from services.api.view import make_card, outcome_table
from shared.domain.event import Quality
from shared.domain.host_state import EPOCH, HostState, SnapshotState
from shared.domain.names import snapshot_name
from shared.domain.projection import State
from shared.domain.store_state import DAY_US, StoreState
from shared.domain.tally import HOUR_US, WENT_WELL, WENT_WRONG
from tests.support.builders import SLOT, some_settings

NOW = datetime(2026, 3, 6, 12, tzinfo=UTC)
TODAY = int(NOW.timestamp() * 1_000_000) // DAY_US
BERLIN = ZoneInfo("Europe/Berlin")


def hour_of(moment: datetime) -> int:
    return int((moment - EPOCH).total_seconds() * 1_000_000) // HOUR_US


def host_with(*slots: datetime, moved_bytes: int = 0) -> HostState:
    snapshots = {
        str(snapshot_name(slot)): SnapshotState(snapshot_name(slot), slot, Quality.COMPLETE, 1, 1000, moved_bytes)
        for slot in slots
    }
    return HostState(snapshots=snapshots)


def test_a_day_that_went_well_may_have_nothing_left_and_a_failed_one_may() -> None:
    host = host_with(NOW - timedelta(days=1))
    host.hours = {hour_of(NOW - timedelta(days=2)): WENT_WELL, hour_of(NOW - timedelta(days=1)): WENT_WRONG}
    days = strip(host, NOW, ZoneInfo("UTC"))
    assert len(days) == STRIP_DAYS
    assert [(day.run, day.kept) for day in days[-3:]] == [("well", 0), ("wrong", 1), ("none", 0)]
    assert "went well on 1, some failed on 1; snapshots are kept of 1" in in_a_sentence(days)


def test_an_hour_with_both_is_a_mixed_day() -> None:
    host = HostState(hours={hour_of(NOW): WENT_WELL | WENT_WRONG})
    today = strip(host, NOW, ZoneInfo("UTC"))[-1]
    assert (today.run, today.well, today.wrong) == ("mixed", 1, 1)
    assert "failed in 1 hours and went well in 1" in str(today)


def test_days_are_those_of_the_time_zone() -> None:
    late = datetime(2026, 3, 5, 23, 30, tzinfo=UTC)
    host = host_with(late)
    host.hours = {hour_of(late): WENT_WELL}
    assert [(day.run, day.kept) for day in strip(host, NOW, BERLIN)[-2:]] == [("none", 0), ("well", 1)]
    assert [(day.run, day.kept) for day in strip(host, NOW, ZoneInfo("UTC"))[-2:]] == [("well", 1), ("none", 0)]


@given(st.sets(st.integers(-1, 60 * 24), max_size=40))
def test_each_snapshot_of_the_window_is_counted_once(hours_ago: set[int]) -> None:
    host = host_with(*(NOW - timedelta(hours=hours) for hours in hours_ago))
    days = strip(host, NOW, BERLIN)
    first = days[0].date
    inside = [
        name for name, one in host.snapshots.items() if first <= one.slot.astimezone(BERLIN).date() <= days[-1].date
    ]
    assert sum(day.kept for day in days) == len(inside)


def a_drive(used: list[int], total: int = 1000) -> State:
    days = {TODAY - len(used) + 1 + number: value for number, value in enumerate(used)}
    measured_us = int(NOW.timestamp() * 1_000_000)
    return State(
        stores={"main": StoreState(None, total, total - used[-1], 100, 90, measured_us=measured_us, used_of_day=days)}
    )


def test_a_drive_that_fills_up_says_when() -> None:
    found = drives(a_drive([100, 110, 120, 130]), NOW)[0]
    assert found.percent == 13
    assert "Full on 2026-06-01" in found.outlook
    assert found.warning == ""


def test_a_drive_that_is_soon_full_warns() -> None:
    assert "full in 7 days" in drives(a_drive([500, 550, 600, 650]), NOW)[0].warning
    assert "Nearly full" in drives(a_drive([920, 920, 920]), NOW)[0].warning


def test_a_drive_that_nobody_measures_warns() -> None:
    found = drives(a_drive([1, 1, 1]), NOW + timedelta(days=1))[0]
    assert "Nobody has measured it for 1 d" in found.warning


def test_a_drive_that_was_never_measured_is_not_shown() -> None:
    assert drives(State(stores={"main": StoreState()}), NOW) == []


@given(st.lists(st.integers(0, 2000), min_size=2, max_size=90))
def test_the_line_of_a_drive_stays_in_its_picture(used: list[int]) -> None:
    points = [point.split(",") for point in spark(a_drive(used).stores["main"]).split()]
    assert all(0 <= float(x) <= SPARK_WIDTH and 0 <= float(y) <= SPARK_HEIGHT for x, y in points)
    assert float(points[-1][0]) == SPARK_WIDTH


def test_a_card_counts_snapshots_by_the_tier_of_their_age() -> None:
    host = host_with(*(NOW - timedelta(hours=hours) for hours in (1, 2, 3)), NOW - timedelta(days=60), moved_bytes=7)
    card = make_card(some_settings(["nas"]), "nas", host, NOW)
    assert card.ages == "3 hourly, 1 daily, 0 monthly"
    assert (card.current, card.size_bytes, card.hourly_bytes) == ("2026-03-06_1100", 1000, 7)


def test_outcomes_are_summed_over_hosts() -> None:
    state = State(
        hosts={"a": HostState(outcomes={"snapshot failed": 2}), "b": HostState(outcomes={"snapshot failed": 1})}
    )
    assert outcome_table(state) == [("snapshot", {"completed": 0, "failed": 3, "cancelled": 0, "abandoned": 0})]


def test_what_is_missing_is_said_with_what_to_do() -> None:
    settings, state = some_settings(["nas"]), State()
    steps = unfinished(settings, state, [], keys={"nas": False}, has_users=False)
    assert [step.command for step in steps] == [
        "backup-manager hosts enroll nas",
        "backup-manager users setup-link",
        "",
    ]
    state.hosts["nas"] = host_with(SLOT)
    state.hosts["nas"].outcomes["restore completed"] = 1
    assert unfinished(settings, state, [], keys={"nas": True}, has_users=True) == []


def test_no_hosts_at_all_is_said_first() -> None:
    assert "no hosts" in unfinished(some_settings([]), State(), [], keys={}, has_users=True)[0].sentence
