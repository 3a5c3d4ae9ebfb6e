"""The state of everything: the same whether it is computed at once or in pieces, and true to the events."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.events import (
    AlertRaised,
    AnyEvent,
    ArchiveStarted,
    BackupRequested,
    DryRunCompleted,
    GoldenCompleted,
    HoldPlaced,
    HostFoundOffline,
    Job,
    MessageRejected,
    Quality,
    Recorded,
    RequestRefused,
    SettingsChanged,
    SlotSkipped,
    SnapshotAbandoned,
    SnapshotCompleted,
    SnapshotDiscovered,
    SnapshotFailed,
    SnapshotProgressed,
    SnapshotStarted,
    StoreEnrolled,
)
from shared.domain.fold_runs import REMEMBERED, settle
from shared.domain.host_state import HostState, RunState
from shared.domain.names import snapshot_name
from shared.domain.projection import State, evolve, replay
from tests.support.builders import EVENT_TYPES, RUN, SLOT, STORE_UUID, build, recorded

RUNS = [UUID(int=RUN.int + (number << 16)) for number in range(3)]
SLOTS = [SLOT + timedelta(hours=hours) for hours in range(4)]
STREAMS = ["host-a", "host-b", "settings", "store-main", "refused"]
FIELDS: dict[str, st.SearchStrategy[object]] = {
    "run": st.sampled_from(RUNS),
    "slot": st.sampled_from(SLOTS),
    "quality": st.sampled_from(Quality),
    "job": st.sampled_from(Job),
    "final": st.booleans(),
}


@st.composite
def events(draw: st.DrawFn) -> AnyEvent:
    kind = draw(st.sampled_from(EVENT_TYPES))
    fields = {name: draw(values) for name, values in FIELDS.items() if name in kind.__struct_fields__}
    slot = fields.get("slot")
    if "snapshot" in kind.__struct_fields__ and isinstance(slot, datetime):
        fields["snapshot"] = snapshot_name(slot)
    return build(kind, **fields)


@st.composite
def histories(draw: st.DrawFn) -> list[Recorded]:
    """A log as it can be: positions count, versions count in each stream."""
    versions: dict[str, int] = {}
    history = []
    for position, event in enumerate(draw(st.lists(events(), max_size=30)), start=1):
        stream = draw(st.sampled_from(STREAMS))
        versions[stream] = versions.get(stream, 0) + 1
        history.append(recorded(event, position, version=versions[stream], stream=stream))
    return history


def host_after(*happened: AnyEvent) -> HostState:
    """The state of a host after these events in its stream."""
    pages = [[recorded(event, number, version=number) for number, event in enumerate(happened, start=1)]]
    return replay(pages).hosts["nas"]


def run_after(*happened: AnyEvent) -> RunState:
    run = host_after(*happened).run
    assert run is not None
    return run


@given(histories(), st.lists(st.integers(0, 30), max_size=4))
def test_replay_in_pieces_gives_what_replay_at_once_gives(history: list[Recorded], cuts: list[int]) -> None:
    at_once = replay([history])
    edges = [0, *sorted(cuts), len(history)]
    state = State()
    for start, end in pairwise(edges):
        state = replay([history[start:end]], state)
    assert state == at_once
    assert replay([[event] for event in history]) == at_once


@given(histories())
def test_two_replays_share_nothing(history: list[Recorded]) -> None:
    first = replay([history])
    second = replay([history])
    assert first == second
    for host in first.hosts.values():
        host.snapshots.clear()
        host.settled_slots.clear()
    first.hosts.clear()
    first.stores.clear()
    assert second == replay([history])


@given(histories())
def test_what_was_settled_stays_settled(history: list[Recorded]) -> None:
    state = State()
    seen: dict[tuple[str, Job], set[datetime]] = {}
    for event in history:
        evolve(state, event)
        for name, host in state.hosts.items():
            for job, newest in host.settled_slots.items():
                seen.setdefault((name, job), set()).update(newest)
    for (name, job), slots in seen.items():
        assert all(state.hosts[name].is_settled(job, slot, max(slots)) for slot in slots)


@given(histories())
def test_the_state_knows_its_position_its_moment_and_the_versions(history: list[Recorded]) -> None:
    state = State()
    for event in history:
        evolve(state, event)
        assert state.position == event.position
        assert state.as_of() == SLOT + timedelta(seconds=event.position)
    for name, host in state.hosts.items():
        assert host.version == sum(event.stream == f"host-{name}" for event in history)


@given(histories(), st.integers(0, 30))
def test_the_state_as_of_a_position_is_the_one_that_was_seen_then(history: list[Recorded], position: int) -> None:
    then = replay([history[:position]])
    seen = State()
    for event in history:
        if event.position > position:
            break
        evolve(seen, event)
    assert seen == then


@given(histories())
def test_what_is_in_other_streams_changes_no_host(history: list[Recorded]) -> None:
    only_hosts = [event for event in history if event.stream.startswith("host-")]
    assert replay([history]).hosts == replay([only_hosts]).hosts


@given(histories())
def test_every_event_that_exists_can_be_taken_in_anywhere(history: list[Recorded]) -> None:
    state = replay([history])
    assert state.rejected_messages == sum(
        isinstance(event.event, MessageRejected) and not event.stream.startswith("host-") for event in history
    )


def settled(host: HostState) -> list[datetime]:
    return host.settled_slots.get(Job.SNAPSHOT, [])


def test_a_run_goes_from_running_to_completed() -> None:
    started, progressed = build(SnapshotStarted, attempt=2), build(SnapshotProgressed, percent=40)
    running = run_after(started, progressed)
    assert (running.outcome, running.percent, running.attempt, running.ended_at) == ("running", 40, 2, None)
    host = host_after(started, progressed, build(SnapshotCompleted, files=7, size_bytes=70))
    assert host.run is not None
    assert (host.run.outcome, host.run.percent, host.run.eta_seconds) == ("completed", 100, None)
    assert host.run.ended_at == SLOT + timedelta(seconds=3)
    assert host.runs_completed == 1
    assert settled(host) == [SLOT]
    snapshot = host.snapshots[snapshot_name(SLOT)]
    assert (snapshot.files, snapshot.size_bytes, snapshot.run) == (7, 70, RUN)


def test_a_failed_attempt_settles_its_slot_only_when_it_was_the_last() -> None:
    started = build(SnapshotStarted)
    again = host_after(started, build(SnapshotFailed, final=False))
    assert (settled(again), again.runs_failed, again.snapshots) == ([], 0, {})
    final = host_after(started, build(SnapshotFailed, message="No.", hint="Try."))
    assert (settled(final), final.runs_failed) == ([SLOT], 1)
    assert final.run is not None
    assert (final.run.outcome, final.run.message, final.run.hint) == ("failed", "No.", "Try.")


def test_an_abandoned_run_settles_nothing() -> None:
    host = host_after(build(SnapshotStarted), build(SnapshotAbandoned))
    assert settled(host) == []
    assert host.run is not None
    assert host.run.outcome == "abandoned"


@pytest.mark.parametrize(
    "late",
    [
        build(SnapshotProgressed, run=RUNS[1], percent=99),
        build(SnapshotFailed, run=RUNS[1], final=False),
        build(SnapshotAbandoned, run=RUNS[1]),
    ],
    ids=lambda event: type(event).__name__,
)
def test_what_is_heard_late_of_another_run_does_not_touch_the_one_under_way(late: AnyEvent) -> None:
    assert run_after(build(SnapshotStarted), late) == run_after(build(SnapshotStarted))


def test_a_completion_that_is_heard_late_counts_and_leaves_the_run_under_way_alone() -> None:
    host = host_after(build(SnapshotStarted, slot=SLOTS[1]), build(SnapshotCompleted, run=RUNS[1]))
    assert host.run is not None
    assert host.run.outcome == "running"
    assert list(host.snapshots) == [snapshot_name(SLOT)]


def test_a_snapshot_found_on_the_drive_is_there_and_settles_nothing() -> None:
    host = host_after(build(SnapshotDiscovered, files=5))
    assert host.snapshots[snapshot_name(SLOT)].files == 5
    assert settled(host) == []


def test_attempts_are_counted_for_each_slot() -> None:
    host = host_after(build(SnapshotStarted, attempt=3))
    assert host.attempts_at(SLOT) == 3
    assert host.attempts_at(SLOTS[1]) == 0
    assert HostState().attempts_at(SLOT) == 0


def test_a_host_is_offline_since_it_was_first_found_so_and_until_it_answers() -> None:
    twice = host_after(build(HostFoundOffline), build(HostFoundOffline, reason="timeout"))
    assert (twice.offline_since, twice.offline_reason) == (SLOT + timedelta(seconds=1), "timeout")
    assert host_after(build(HostFoundOffline), build(SnapshotStarted)).offline_since is None


def test_only_a_skipped_snapshot_settles_a_slot() -> None:
    assert settled(host_after(build(SlotSkipped))) == [SLOT]
    assert settled(host_after(build(SlotSkipped, job=Job.ARCHIVE))) == []


def test_wishes_holds_alerts_and_dry_runs_are_remembered() -> None:
    dry = build(DryRunCompleted, findings=("all is well",))
    host = host_after(
        build(BackupRequested, slot=SLOTS[2]),
        build(RequestRefused),
        build(HoldPlaced, reason="shrunken", pinned="2026-03-06_0700"),
        build(AlertRaised, evidence="10 files instead of 300."),
        dry,
    )
    assert host.requested_slot == SLOTS[2]
    assert (host.hold_reason, host.pinned) == ("shrunken", "2026-03-06_0700")
    assert host.last_alert == "10 files instead of 300."
    assert host.dry_run == dry
    assert host.version == 5


def test_settings_stores_and_refused_messages_are_known() -> None:
    events = [
        recorded(build(SettingsChanged, settings={"TZ": "UTC"}), 1, version=1, stream="settings"),
        recorded(build(SettingsChanged, settings={"TZ": "Europe/Berlin"}), 2, version=2, stream="settings"),
        recorded(build(StoreEnrolled), 3, stream="store-main"),
        recorded(build(MessageRejected), 4, stream="refused"),
    ]
    state = replay([events])
    assert (state.settings, state.settings_version) == ({"TZ": "Europe/Berlin"}, 2)
    assert {name: store.uuid for name, store in state.stores.items()} == {"main": STORE_UUID}
    assert (state.rejected_messages, state.hosts) == (1, {})


def test_the_newest_snapshot_is_the_newest_of_its_quality() -> None:
    story = [
        build(SnapshotCompleted, slot=slot, snapshot=snapshot_name(slot), quality=quality)
        for slot, quality in zip(
            SLOTS, [Quality.COMPLETE, Quality.DEGRADED, Quality.COMPLETE, Quality.SUSPECT], strict=True
        )
    ]
    host = host_after(*story)
    newest, degraded = host.newest(), host.newest(Quality.DEGRADED)
    assert newest is not None
    assert degraded is not None
    assert (newest.slot, degraded.slot) == (SLOTS[2], SLOTS[1])
    assert [snapshot.slot for snapshot in host.recent_complete(5)] == [SLOTS[2], SLOTS[0]]
    assert [snapshot.slot for snapshot in host.recent_complete(1)] == [SLOTS[2]]
    assert HostState().newest() is None


def test_a_run_that_made_only_a_golden_copy_ends_with_its_skipped_slot() -> None:
    made = (build(ArchiveStarted, golden="2026-03"), build(GoldenCompleted))
    skipped = build(SlotSkipped, job=Job.ARCHIVE, reason="the newest archive is young")
    run = host_after(*made, skipped).archive_run
    assert run is not None
    assert (run.outcome, run.ended_at) == ("completed", SLOT + timedelta(seconds=3))
    other = host_after(*made, build(SlotSkipped, job=Job.ARCHIVE, slot=SLOT + timedelta(hours=4))).archive_run
    assert other is not None
    assert other.outcome == "running"


slots_by_any_clock = st.lists(st.integers(0, 60), max_size=REMEMBERED)
"""Hours after `SLOT`, in the order in which they are settled."""


@given(slots_by_any_clock, st.integers(0, 60))
def test_a_slot_is_settled_when_it_or_a_later_one_is_and_none_counts_before_its_time(done: list[int], now: int) -> None:
    state = HostState()
    for hours in done:
        settle(state, Job.SNAPSHOT, SLOT + timedelta(hours=hours))
    past = [hours for hours in done if hours <= now]
    newest = SLOT + timedelta(hours=max(past)) if past else None
    moment = SLOT + timedelta(hours=now)
    assert state.settled(Job.SNAPSHOT, moment) == newest
    for hours in range(now + 1):
        slot = SLOT + timedelta(hours=hours)
        assert state.is_settled(Job.SNAPSHOT, slot, moment) == (newest is not None and slot <= newest)


def test_what_was_settled_before_a_clock_jumped_ahead_is_settled_when_it_comes_back() -> None:
    ahead = SLOT.replace(year=2038)
    state = HostState()
    for slot in [SLOT, *(ahead + timedelta(hours=hours) for hours in range(REMEMBERED - 1))]:
        settle(state, Job.ARCHIVE, slot)
    assert state.is_settled(Job.ARCHIVE, SLOT, SLOT)
    assert not state.is_settled(Job.ARCHIVE, SLOT + timedelta(hours=1), SLOT + timedelta(hours=1))


def test_slots_of_a_clock_that_was_ahead_do_not_push_out_what_is_settled_later() -> None:
    state = HostState()
    for slot in [*(SLOT.replace(year=2038) + timedelta(hours=hours) for hours in range(2 * REMEMBERED)), SLOT]:
        settle(state, Job.ARCHIVE, slot)
    assert state.is_settled(Job.ARCHIVE, SLOT, SLOT)
    assert len(state.settled_slots[Job.ARCHIVE]) == REMEMBERED
