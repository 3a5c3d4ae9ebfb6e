"""When an archive is due, and when a golden copy is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.heavy import due_golden, why_no_archive
from shared.domain.names import golden_name
from tests.support.builders import SLOT

BERLIN, UTC_ZONE = ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")
slots = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # the zone is the next argument


def test_a_host_without_archives_gets_one() -> None:
    assert why_no_archive("s", SLOT, [], 4, asked=False) == ""


@pytest.mark.parametrize(("hours", "due"), [(0, False), (3, False), (4, True), (5, True)])
def test_the_next_one_is_due_an_interval_after_the_slot_of_the_newest(hours: int, due: bool) -> None:
    made = [("old", SLOT - timedelta(days=1)), ("newest", SLOT)]
    assert (why_no_archive("s", SLOT + timedelta(hours=hours), made, 4, asked=False) == "") is due


def test_who_asks_does_not_wait_but_gets_no_second_one_of_the_same_snapshot() -> None:
    made = [("a", SLOT)]
    assert why_no_archive("b", SLOT, made, 4, asked=True) == ""
    assert why_no_archive("a", SLOT, made, 4, asked=True) == "snapshot a has an archive already"


def test_an_archive_of_a_clock_that_was_ahead_holds_up_none() -> None:
    made = [("a", SLOT), ("of 2038", SLOT.replace(year=2038))]
    assert why_no_archive("b", SLOT + timedelta(hours=4), made, 4, asked=False) == ""
    assert why_no_archive("b", SLOT + timedelta(hours=3), made, 4, asked=False) != ""


def golden(
    slot: datetime, existing: set[str], *, day: int = 1, zone: ZoneInfo = UTC_ZONE, wanted: bool = True
) -> str | None:
    return due_golden(slot, existing, zone, day, wanted=wanted)


def test_a_host_without_golden_copies_gets_one_at_once() -> None:
    assert golden(SLOT, set(), day=28) == "2026-03"


@pytest.mark.parametrize(("day", "name"), [(5, None), (14, None), (15, "2026-03"), (16, "2026-03"), (31, "2026-03")])
def test_a_missed_day_is_caught_up_until_the_month_is_over(day: int, name: str | None) -> None:
    assert golden(SLOT.replace(day=day), {"2026-02"}, day=15) == name


def test_there_is_one_a_month() -> None:
    assert golden(SLOT, {"2026-03"}) is None


def test_none_is_made_when_none_is_wanted() -> None:
    assert golden(SLOT, set(), wanted=False) is None


def test_the_day_is_that_of_the_house() -> None:
    evening = datetime(2026, 3, 31, 22, 30, tzinfo=UTC)
    assert golden(evening, {"2026-02"}, zone=BERLIN) == "2026-04"
    assert golden(evening, {"2026-02", "2026-03"}) is None


@given(slots, st.sets(slots, max_size=5), st.integers(1, 28), st.sampled_from(["UTC", "Pacific/Apia", "Asia/Kolkata"]))
def test_a_golden_copy_is_of_the_month_of_its_snapshot_and_never_made_twice(
    slot: datetime, earlier: set[datetime], day: int, zone: str
) -> None:
    place = ZoneInfo(zone)
    existing = {golden_name(one, place) for one in earlier}
    name = due_golden(slot, existing, place, day, wanted=True)
    if name is None:
        assert golden_name(slot, place) in existing or (existing and slot.astimezone(place).day < day)
    else:
        assert name == golden_name(slot, place)
        assert name not in existing
