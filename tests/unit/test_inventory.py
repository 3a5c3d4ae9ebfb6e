"""From the state of a host to the facts of a plan: which clock is doubted, which policy is new, what may be purged."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from shared.domain.events import (
    AnyEvent,
    ArchiveCompleted,
    ClockTrusted,
    GoldenCompleted,
    HostFoundOffline,
    Kind,
    PlanConfirmed,
    PointLost,
    PointPurged,
    PointTrashed,
    PointUndeleted,
    Quality,
    Recorded,
    SettingsChanged,
    SnapshotCompleted,
)
from shared.domain.host_state import HostState
from shared.domain.ids import run_id
from shared.domain.inventory import POLICY_SETTINGS, clock_doubt, facts_of_log, policy_changed_at, purgeable
from shared.domain.names import snapshot_name
from shared.domain.projection import evolve_host
from shared.domain.restore_points import Hold
from tests.support.builders import ARCHIVE, SLOT, build

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NAME = snapshot_name(SLOT)


def at(moment: datetime, event: AnyEvent, version: int = 1, stream: str = "host-nas") -> Recorded:
    return Recorded(version, int(moment.timestamp()) * 1_000_000, stream, version, event)


def told(*happened: tuple[datetime, AnyEvent]) -> HostState:
    state = HostState()
    for version, (moment, event) in enumerate(happened, start=1):
        evolve_host(state, at(moment, event, version))
    return state


def completed(slot: datetime, quality: Quality = Quality.COMPLETE) -> AnyEvent:
    return build(SnapshotCompleted, slot=slot, snapshot=snapshot_name(slot), quality=quality)


def test_the_points_of_all_kinds_are_there_with_current_and_latest() -> None:
    later = SLOT + HOUR
    state = told(
        (SLOT, completed(SLOT)),
        (SLOT, build(ArchiveCompleted)),
        (SLOT, build(GoldenCompleted)),
        (later, completed(later, Quality.DEGRADED)),
        (later + HOUR, completed(later + HOUR, Quality.SUSPECT)),
    )
    facts = facts_of_log(state, later)
    assert {point.key for point in facts.points} == {
        f"snapshot/{NAME}",
        f"snapshot/{snapshot_name(later)}",
        f"snapshot/{snapshot_name(later + HOUR)}",
        f"archive/{ARCHIVE}",
        "golden/2026-03",
    }
    assert (facts.current, facts.latest) == (NAME, snapshot_name(later))


def test_an_archive_is_never_older_than_its_snapshot() -> None:
    between = SLOT + timedelta(hours=3)
    state = told((between, build(ArchiveCompleted, slot=SLOT, snapshot=snapshot_name(between))))
    assert [point.slot for point in facts_of_log(state, between).points] == [between]
    state = told((between, build(ArchiveCompleted, slot=between, snapshot=NAME)))
    assert [point.slot for point in facts_of_log(state, between).points] == [between]


def test_a_point_goes_to_the_trash_comes_back_and_is_left_alone_for_a_while() -> None:
    there = (SLOT, completed(SLOT))
    trashed = (SLOT + HOUR, build(PointTrashed))
    back = (SLOT + 2 * HOUR, build(PointUndeleted))
    assert facts_of_log(told(there, trashed), SLOT).points == ()
    state = told(there, trashed, back)
    assert state.snapshots[NAME].files == 300
    assert facts_of_log(state, SLOT + DAY).undeleted == {f"snapshot/{NAME}"}
    assert facts_of_log(state, SLOT + 32 * DAY).undeleted == frozenset()


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_goes_to_the_trash_and_comes_back(kind: Kind) -> None:
    point = {Kind.SNAPSHOT: NAME, Kind.ARCHIVE: ARCHIVE, Kind.GOLDEN: "2026-03"}[kind]
    there = told((SLOT, completed(SLOT)), (SLOT, build(ArchiveCompleted)), (SLOT, build(GoldenCompleted)))
    before = facts_of_log(there, SLOT).points
    evolve_host(there, at(SLOT, build(PointTrashed, kind=kind, point=point), 4))
    assert len(facts_of_log(there, SLOT).points) == 2
    assert set(there.trash) == {f"{kind}/{point}"}
    evolve_host(there, at(SLOT, build(PointUndeleted, kind=kind, point=point), 5))
    assert set(facts_of_log(there, SLOT).points) == set(before)


def test_what_is_purged_or_lost_is_gone() -> None:
    there, trashed = (SLOT, completed(SLOT)), (SLOT, build(PointTrashed))
    assert told(there, trashed, (SLOT, build(PointPurged))).trash == {}
    assert told(there, (SLOT, build(PointLost))).snapshots == {}
    assert told(there, trashed, (SLOT, build(PointLost))).trash == {}


def test_a_confirmation_is_remembered_with_its_moment() -> None:
    facts = facts_of_log(told((SLOT, build(PlanConfirmed))), SLOT)
    assert facts.confirmed == {f"snapshot/{NAME}"}
    assert facts.confirmed_at == SLOT
    assert facts_of_log(HostState(), SLOT).confirmed_at is None


# The clock.


def heard_hourly(hours: int) -> list[tuple[datetime, AnyEvent]]:
    return [(SLOT + HOUR * n, build(HostFoundOffline, slot=SLOT + HOUR * n)) for n in range(hours)]


def test_a_clock_that_goes_on_is_not_doubted() -> None:
    assert clock_doubt(told(*heard_hourly(5)), SLOT + 5 * HOUR) == ""
    assert clock_doubt(HostState(), SLOT) == ""


@pytest.mark.parametrize(("minutes", "doubted"), [(4, False), (6, True), (60 * 24 * 365, True)])
def test_a_clock_that_went_back_is_doubted(minutes: int, doubted: bool) -> None:
    state = told(*heard_hourly(2))
    assert (clock_doubt(state, SLOT + HOUR - timedelta(minutes=minutes)) != "") is doubted


@pytest.mark.parametrize(("days", "doubted"), [(2, False), (3, False), (4, True), (365, True), (3650, True)])
def test_a_clock_that_jumped_ahead_is_doubted_now_and_after_the_next_event(days: int, doubted: bool) -> None:
    state, later = told(*heard_hourly(1)), SLOT + days * DAY
    assert (clock_doubt(state, later) != "") is doubted
    evolve_host(state, at(later, completed(later), 2))
    evolve_host(state, at(later + HOUR, completed(later + HOUR), 3))
    assert (clock_doubt(state, later + HOUR) != "") is doubted


def test_a_jump_is_forgiven_when_somebody_says_so() -> None:
    later = SLOT + 10 * DAY
    state = told(*heard_hourly(1), (later, completed(later)))
    evolve_host(state, at(later + HOUR, build(ClockTrusted), 3))
    assert clock_doubt(state, later + HOUR) == ""


# The policy.


def settings(moment: datetime, changed: tuple[str, ...], **values: str) -> Recorded:
    return at(moment, build(SettingsChanged, settings=values, changed=changed), stream="settings")


MINE = dict.fromkeys(POLICY_SETTINGS, "1")


def test_the_last_change_of_the_policy_counts_and_no_other() -> None:
    events = [
        settings(SLOT, ("TZ",), **MINE),
        settings(SLOT + HOUR, ("RETENTION_MONTHS", "HOSTS"), **MINE),
        settings(SLOT + 2 * HOUR, ("HOSTS",), **MINE),
    ]
    assert policy_changed_at(events, MINE, SLOT + DAY) == SLOT + HOUR


@pytest.mark.parametrize("key", POLICY_SETTINGS)
def test_a_worker_with_other_settings_than_those_in_force_has_a_policy_that_changes_now(key: str) -> None:
    assert policy_changed_at([settings(SLOT, ("TZ",), **MINE)], {**MINE, key: "2"}, SLOT + DAY) == SLOT + DAY


def test_without_any_settings_in_the_log_the_policy_is_new() -> None:
    assert policy_changed_at([], MINE, SLOT) == SLOT


# The purge.


def in_trash(*slots: datetime) -> HostState:
    events: list[tuple[datetime, AnyEvent]] = [(slot, completed(slot)) for slot in slots]
    events += [(slots[-1], build(PointTrashed, point=snapshot_name(slot))) for slot in slots]
    return told(*events)


def test_only_what_has_lain_there_for_longer_than_the_grace_period_is_purged() -> None:
    trash = in_trash(SLOT).trash
    assert purgeable(trash, DAY, None, SLOT + DAY) == []
    assert [one.point.name for one in purgeable(trash, DAY, None, SLOT + DAY + HOUR)] == [NAME]


def test_what_is_held_stays_in_the_trash_too() -> None:
    trash, now = in_trash(SLOT, SLOT + HOUR, SLOT + 2 * HOUR).trash, SLOT + 5 * DAY
    for pinned, purged in ((snapshot_name(SLOT + HOUR), 1), (snapshot_name(SLOT), 2), ("nonsense", 0), (None, 0)):
        assert len(purgeable(trash, DAY, Hold("why", pinned), now)) == purged


def test_a_log_whose_time_is_one_to_come_is_doubted_until_somebody_says_that_the_clock_is_right() -> None:
    state, ahead = HostState(), SLOT.replace(year=2038)
    heard: list[AnyEvent] = [build(HostFoundOffline), build(ClockTrusted), build(HostFoundOffline)]
    for version, event in enumerate(heard, start=1):
        evolve_host(state, at(ahead, event, version))
        assert (clock_doubt(state, SLOT) == "") is (version > 1)
    evolve_host(state, at(ahead + HOUR, build(HostFoundOffline), 4))
    assert clock_doubt(state, SLOT) != ""


def test_what_was_thrown_away_at_a_time_to_come_lies_there_since_its_run_began() -> None:
    state, run = HostState(), run_id(int(SLOT.timestamp() * 1000), 7)
    evolve_host(state, at(SLOT, build(SnapshotCompleted, slot=SLOT, snapshot=NAME), 1))
    trashed = build(PointTrashed, run=run, kind=Kind.SNAPSHOT, point=NAME)
    evolve_host(state, at(SLOT.replace(year=2038), trashed, 2))
    assert purgeable(state.trash, DAY, None, SLOT + 23 * HOUR) == []
    assert len(purgeable(state.trash, DAY, None, SLOT + 25 * HOUR)) == 1
