"""When a drive will be full: the slope of the last weeks, whatever one odd day did."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.events import StoreMeasured
from shared.domain.forecast import FARTHEST_DAYS, WINDOW_DAYS, Forecast, forecast
from shared.domain.store_state import DAY_US, DAYS_REMEMBERED, StoreState, measured
from tests.support.builders import build

GB = 10**9


def test_too_little_is_known_of_two_days() -> None:
    assert forecast({}, GB) is None
    assert forecast({1: 5, 2: 6}, GB) is None


def test_a_steady_growth_is_followed() -> None:
    used = {day: day * 10 * GB for day in range(100, 130)}
    assert forecast(used, 100 * GB) == Forecast(10 * GB, 10)


def test_one_odd_day_changes_nothing() -> None:
    used = {day: day * 10 * GB for day in range(100, 130)}
    used[115] += 5000 * GB
    assert forecast(used, 100 * GB) == Forecast(10 * GB, 10)


def test_what_was_before_the_window_changes_nothing() -> None:
    used = {day: day * GB for day in range(100, 130)}
    assert forecast({1: 7000 * GB} | used, 100 * GB) == forecast(used, 100 * GB)


@given(st.integers(0, 10**15), st.integers(-(10**12), 10**12), st.integers(3, 60), st.integers(0, 10**15))
def test_a_line_is_continued(start: int, slope: int, days: int, free_bytes: int) -> None:
    found = forecast({day: start + slope * day for day in range(days)}, free_bytes)
    assert found is not None
    assert found.bytes_per_day == slope
    if slope <= 0 or free_bytes // slope > FARTHEST_DAYS:
        assert found.full_in_days is None
    else:
        assert found.full_in_days == free_bytes // slope


@given(st.dictionaries(st.integers(0, 40_000), st.integers(0, 10**15), max_size=40), st.integers(0, 10**15))
def test_it_takes_what_comes(used: dict[int, int], free_bytes: int) -> None:
    found = forecast(used, free_bytes)
    assert found is None or found.full_in_days is None or 0 <= found.full_in_days <= FARTHEST_DAYS


def test_a_drive_remembers_the_last_measurement_of_each_day() -> None:
    store = StoreState()
    for hour in range(24 * 3):
        event = build(StoreMeasured, total_bytes=1000, free_bytes=1000 - hour)
        measured(store, event, hour * DAY_US // 24)
    assert store.used_of_day == {0: 23, 1: 47, 2: 71}
    assert (store.used_bytes, store.measured_us) == (71, 71 * DAY_US // 24)


def test_a_drive_forgets_days_that_are_long_gone() -> None:
    store = StoreState()
    for day in range(DAYS_REMEMBERED + 5):
        measured(store, build(StoreMeasured), day * DAY_US)
    assert min(store.used_of_day) == 5
    assert WINDOW_DAYS < len(store.used_of_day) == DAYS_REMEMBERED


def test_a_drive_is_as_full_as_what_ends_first() -> None:
    assert StoreState(total_bytes=100, free_bytes=60, total_inodes=10, free_inodes=1).used_share == 0.9
    assert StoreState(total_bytes=100, free_bytes=60, total_inodes=0, free_inodes=None).used_share == 0.4
    assert StoreState().used_share == 0
