"""Which slots are due: the newest missed one, never the future, and no daylight saving anywhere."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.events import Job
from shared.domain.messages import Tick
from shared.domain.names import HostName, StoreName
from shared.domain.schedule import Cadence, due_ticks, newest_slot, next_due, next_slot, trigger_slot
from tests.support.builders import MAIN, SLOT

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
intervals = st.integers(1, 744)
moments = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # given its zone by the next argument
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
plans = st.lists(
    st.builds(
        Cadence,
        job=st.sampled_from(Job),
        host=st.sampled_from([HostName(name) for name in "abcde"]),
        store=st.just(MAIN),
        interval_hours=intervals,
    ),
    unique_by=lambda plan: (plan.job, plan.host),
)
settled_slots = st.dictionaries(
    st.tuples(st.sampled_from(Job), st.sampled_from([HostName(name) for name in "abcde"])), moments
)
Settled = dict[tuple[Job, HostName], datetime]


def hourly(*names: str) -> list[Cadence]:
    return [Cadence(Job.SNAPSHOT, HostName(name), MAIN, 1) for name in names]


def settle(settled: Settled, ticks: list[Tick]) -> Settled:
    return settled | {(tick.job, tick.host): tick.slot for tick in ticks}


@given(intervals, moments)
def test_now_lies_between_the_newest_slot_and_the_next(interval_hours: int, now: datetime) -> None:
    newest, following = newest_slot(interval_hours, now), next_slot(interval_hours, now)
    assert newest <= now < following
    assert following - newest == timedelta(hours=interval_hours)
    assert (newest - EPOCH) % timedelta(hours=interval_hours) == timedelta(0)
    assert newest.tzinfo is UTC


@given(intervals, moments)
def test_the_newest_slot_of_a_slot_is_itself(interval_hours: int, now: datetime) -> None:
    slot = newest_slot(interval_hours, now)
    assert newest_slot(interval_hours, slot) == slot
    assert newest_slot(interval_hours, slot - timedelta(microseconds=1)) < slot


@given(intervals, moments, zones)
def test_the_zone_of_the_clock_changes_no_slot(interval_hours: int, now: datetime, zone: timezone) -> None:
    assert newest_slot(interval_hours, now.astimezone(zone)) == newest_slot(interval_hours, now)


@given(plans, settled_slots, moments)
def test_only_the_newest_slot_that_is_not_settled_is_due(plans: list[Cadence], settled: Settled, now: datetime) -> None:
    ticks = {(tick.job, tick.host): tick for tick in due_ticks(plans, settled, now)}
    for plan in plans:
        newest = newest_slot(plan.interval_hours, now)
        done = settled.get((plan.job, plan.host))
        if done is not None and done >= newest:
            assert (plan.job, plan.host) not in ticks
        else:
            assert ticks[(plan.job, plan.host)] == Tick(plan.job, plan.store, plan.host, newest)
    assert len(ticks) <= len(plans)


@given(plans, settled_slots, moments)
def test_no_slot_of_the_future_is_due(plans: list[Cadence], settled: Settled, now: datetime) -> None:
    assert all(tick.slot <= now for tick in due_ticks(plans, settled, now))


@given(plans, settled_slots, moments)
def test_asking_twice_gives_the_same_and_what_is_settled_is_not_asked_for_again(
    plans: list[Cadence], settled: Settled, now: datetime
) -> None:
    ticks = due_ticks(plans, settled, now)
    assert due_ticks(plans, settled, now) == ticks
    assert due_ticks(plans, settle(settled, ticks), now) == []


@given(plans, moments)
def test_the_next_slot_is_due_exactly_when_next_due_says(plans: list[Cadence], now: datetime) -> None:
    settled = settle({}, due_ticks(plans, {}, now))
    moment = next_due(plans, now)
    if moment is None:
        assert plans == []
        return
    assert moment > now
    assert due_ticks(plans, settled, moment - timedelta(microseconds=1)) == []
    assert due_ticks(plans, settled, moment) != []


def test_after_a_weekend_without_power_one_run_is_made_up_for_and_not_sixty() -> None:
    settled = {(Job.SNAPSHOT, HostName("nas")): SLOT}
    ticks = due_ticks(hourly("nas"), settled, SLOT + timedelta(hours=60, minutes=59))
    assert ticks == [Tick(Job.SNAPSHOT, MAIN, HostName("nas"), SLOT + timedelta(hours=60))]


def test_a_clock_that_went_back_asks_for_nothing_again() -> None:
    settled = {(Job.SNAPSHOT, HostName("nas")): SLOT}
    assert due_ticks(hourly("nas"), settled, SLOT - timedelta(hours=5)) == []


def test_a_run_that_was_asked_for_between_two_slots_does_not_settle_the_next() -> None:
    settled = {(Job.SNAPSHOT, HostName("nas")): SLOT + timedelta(minutes=20)}
    assert due_ticks(hourly("nas"), settled, SLOT + timedelta(minutes=30)) == []
    assert len(due_ticks(hourly("nas"), settled, SLOT + timedelta(hours=1))) == 1


@pytest.mark.parametrize(("day", "hours"), [(datetime(2026, 3, 29), 23), (datetime(2026, 10, 25), 25)])  # noqa: DTZ001  # a day of the wall
def test_on_a_day_with_23_or_25_hours_every_hour_has_one_slot(day: datetime, hours: int) -> None:
    now, end = day.replace(tzinfo=BERLIN).astimezone(UTC), (day + timedelta(days=1)).replace(tzinfo=BERLIN)
    settled: Settled = {}
    published = []
    while now < end.astimezone(UTC):
        ticks = due_ticks(hourly("nas"), settled, now.astimezone(BERLIN))
        settled = settle(settled, ticks)
        published += [tick.slot for tick in ticks]
        now += timedelta(minutes=7)
    assert len(published) == len(set(published)) == hours
    assert all(later - earlier == timedelta(hours=1) for earlier, later in pairwise(published))


@given(moments, zones)
def test_the_slot_of_a_wish_is_its_second(now: datetime, zone: timezone) -> None:
    slot = trigger_slot(now.astimezone(zone))
    assert slot.tzinfo is UTC
    assert timedelta(0) <= now - slot < timedelta(seconds=1)
    assert slot.microsecond == 0


def test_a_plan_keeps_to_its_own_store() -> None:
    plan = Cadence(Job.SNAPSHOT, HostName("nas"), StoreName("attic"), 1)
    assert [tick.store for tick in due_ticks([plan], {}, SLOT)] == ["attic"]


# One job after another.

PATIENCE = timedelta(minutes=30)
NAS = HostName("nas")
SNAPSHOT_FIRST = [
    Cadence(Job.SNAPSHOT, NAS, MAIN, 1),
    Cadence(Job.ARCHIVE, NAS, MAIN, 4, after=Job.SNAPSHOT, patience=PATIENCE),
]


def jobs_due(settled: Settled, now: datetime) -> list[Job]:
    return [tick.job for tick in due_ticks(SNAPSHOT_FIRST, settled, now)]


def test_an_archive_waits_for_the_snapshot_of_its_slot() -> None:
    before = {(Job.SNAPSHOT, NAS): SLOT - timedelta(hours=1)}
    assert jobs_due(before, SLOT) == [Job.SNAPSHOT]
    assert jobs_due(before, SLOT + PATIENCE - timedelta(seconds=1)) == [Job.SNAPSHOT]
    assert jobs_due({(Job.SNAPSHOT, NAS): SLOT}, SLOT + timedelta(minutes=1)) == [Job.ARCHIVE]


def test_a_host_that_is_offline_does_not_keep_its_archive_waiting_for_ever() -> None:
    assert jobs_due({(Job.SNAPSHOT, NAS): SLOT - timedelta(hours=1)}, SLOT + PATIENCE) == [Job.SNAPSHOT, Job.ARCHIVE]


def test_before_the_first_snapshot_there_is_nothing_to_pack() -> None:
    assert jobs_due({}, SLOT + timedelta(days=1)) == [Job.SNAPSHOT]


def test_patience_with_what_was_missed_while_nobody_looked_begins_when_somebody_does() -> None:
    began, settled = SLOT + timedelta(hours=2), {(Job.SNAPSHOT, NAS): SLOT - timedelta(hours=1)}
    for minutes, jobs in ((0, 1), (29, 1), (30, 2)):
        assert len(due_ticks(SNAPSHOT_FIRST, settled, began + timedelta(minutes=minutes), began)) == jobs


def test_a_later_slot_of_the_snapshot_does_not_hold_an_archive_up_again() -> None:
    settled = {(Job.SNAPSHOT, NAS): SLOT}
    assert jobs_due(settled, SLOT + timedelta(hours=1)) == [Job.SNAPSHOT, Job.ARCHIVE]


def test_a_job_that_follows_one_without_a_cadence_does_not_wait() -> None:
    alone = [Cadence(Job.ARCHIVE, NAS, MAIN, 4, after=Job.SNAPSHOT, patience=PATIENCE)]
    assert len(due_ticks(alone, {}, SLOT)) == 1


@given(settled_slots, moments, st.sampled_from(list(Job)), st.integers(0, 300))
def test_waiting_takes_away_ticks_only_while_there_is_patience(
    settled: Settled, now: datetime, first: Job, minutes: int
) -> None:
    patience = timedelta(minutes=minutes)
    waiting = [
        Cadence(first, NAS, MAIN, 1),
        *(Cadence(job, NAS, MAIN, 4, after=first, patience=patience) for job in Job if job is not first),
    ]
    eager = [Cadence(one.job, one.host, one.store, one.interval_hours) for one in waiting]
    held_back = set(due_ticks(eager, settled, now)) - set(due_ticks(waiting, settled, now))
    assert set(due_ticks(waiting, settled, now)) <= set(due_ticks(eager, settled, now))
    jobs = {one.job for one in waiting}
    never = Job.SNAPSHOT in jobs and (Job.SNAPSHOT, NAS) not in settled
    assert all(tick.job is not first and (never or now - tick.slot < patience) for tick in held_back)
