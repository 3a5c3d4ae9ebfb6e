"""Runs whose workers died while the log was away: nobody could ask about them before the next run began."""

from __future__ import annotations

from uuid import UUID

import services.archiver.recovery
import services.snapshotter.recovery
from shared.domain.events import (
    AnyEvent,
    ArchiveAbandoned,
    ArchiveStarted,
    Recorded,
    SnapshotAbandoned,
    SnapshotStarted,
)
from shared.domain.host_state import HostState
from shared.domain.ids import run_id
from shared.domain.projection import evolve_host
from tests.support.builders import SLOT

FIRST, SECOND = run_id(1, 1), run_id(2, 2)


def state_after(*events: AnyEvent) -> HostState:
    state = HostState()
    for number, event in enumerate(events, 1):
        evolve_host(state, Recorded(number, number, "host-a", number, event))
    return state


def snapshot(run: UUID) -> SnapshotStarted:
    return SnapshotStarted(run=run, slot=SLOT, store="main", worker="w")


def archive(run: UUID) -> ArchiveStarted:
    return ArchiveStarted(run=run, slot=SLOT, store="main", worker="w", snapshot="s")


def test_every_snapshot_run_that_was_left_open_is_told_abandoned_once() -> None:
    state = state_after(snapshot(FIRST), snapshot(SECOND))
    facts = services.snapshotter.recovery.recovered(state, [], "main")
    told = [fact.event for fact in facts]
    assert told == [SnapshotAbandoned(run=FIRST, slot=SLOT), SnapshotAbandoned(run=SECOND, slot=SLOT)]
    again = state_after(snapshot(FIRST), snapshot(SECOND), *told)
    assert services.snapshotter.recovery.recovered(again, [], "main") == []


def test_every_archive_run_that_was_left_open_is_told_abandoned_once() -> None:
    state = state_after(archive(FIRST), archive(SECOND))
    told = [fact.event for fact in services.archiver.recovery.recovered(state, [], [], "main")]
    assert told == [ArchiveAbandoned(run=FIRST, slot=SLOT), ArchiveAbandoned(run=SECOND, slot=SLOT)]
    again = state_after(archive(FIRST), archive(SECOND), *told)
    assert services.archiver.recovery.recovered(again, [], [], "main") == []


def test_a_claim_that_is_told_twice_leaves_nothing_open() -> None:
    state = state_after(snapshot(FIRST), snapshot(FIRST))
    assert not state.left_open
    assert state.run is not None
