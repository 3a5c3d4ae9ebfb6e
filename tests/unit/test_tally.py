"""Runs are counted by job and outcome, and the hours in which snapshots went well or wrong are remembered."""

from __future__ import annotations

from typing import cast

from shared.domain.events import (
    AnyEvent,
    ArchiveFailed,
    HostFoundOffline,
    SnapshotCompleted,
    SnapshotFailed,
    SnapshotProgressed,
)
from shared.domain.host_state import HostState
from shared.domain.projection import replay
from shared.domain.tally import HOUR_US, HOURS_REMEMBERED, OUTCOME_OF, WENT_WELL, WENT_WRONG, tally
from tests.support.builders import build, recorded


def told(*events: tuple[int, AnyEvent]) -> HostState:
    """The state of a host after these events, each at its hour."""
    host = HostState()
    for hour, event in events:
        tally(host, event, hour * HOUR_US + 5)
    return host


def test_runs_are_counted_by_job_and_outcome() -> None:
    good, bad = build(SnapshotCompleted), build(SnapshotFailed)
    host = told((1, good), (2, bad), (3, good), (3, build(ArchiveFailed)), (4, build(SnapshotProgressed)))
    assert host.outcomes == {"snapshot completed": 2, "snapshot failed": 1, "archive failed": 1}


def test_an_hour_may_have_seen_both() -> None:
    host = told((7, build(SnapshotFailed)), (7, build(SnapshotCompleted)), (8, build(SnapshotCompleted)))
    assert host.hours == {7: WENT_WELL | WENT_WRONG, 8: WENT_WELL}


def test_what_is_no_outcome_of_a_snapshot_marks_no_hour() -> None:
    assert told((1, build(ArchiveFailed)), (2, build(HostFoundOffline))).hours == {}


def test_only_the_last_hours_are_remembered() -> None:
    host = told(*((hour, build(SnapshotCompleted)) for hour in range(HOURS_REMEMBERED + 10)))
    assert len(host.hours) == HOURS_REMEMBERED
    assert min(host.hours) == 10


def test_the_projection_counts_every_end_of_a_run_once() -> None:
    ends = [cast(AnyEvent, build(kind)) for kind in OUTCOME_OF]
    state = replay([[recorded(event, number, version=number) for number, event in enumerate(ends, 1)]])
    assert state.hosts["nas"].outcomes == {f"{job} {outcome}": 1 for job, outcome in OUTCOME_OF.values()}
    assert list(state.hosts["nas"].hours.values()) == [WENT_WELL | WENT_WRONG]
