"""The state of everything, computed from events by a fold.

`evolve` is the whole truth: replaying the log gives the same state as following it. The fold owns its state and
changes it in place (copying it for each of a million events would cost four times the rest of a replay); nobody
else does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final

import msgspec

from shared.domain.events import (
    AlertRaised,
    ArchiveCompleted,
    ArchiveProgressed,
    ArchiveStarted,
    BackupRequested,
    ClockTrusted,
    DryRunCompleted,
    HoldPlaced,
    HoldReleased,
    HostFoundOffline,
    HostMoved,
    Job,
    MessageRejected,
    PointPurged,
    PointTrashed,
    Recorded,
    RemovalOrdered,
    RetentionCompleted,
    RetentionStarted,
    SettingsChanged,
    SlotSkipped,
    SnapshotAbandoned,
    SnapshotCancelled,
    SnapshotCompleted,
    SnapshotDiscovered,
    SnapshotFailed,
    SnapshotProgressed,
    SnapshotStarted,
    StoreEnrolled,
    StoreMeasured,
)
from shared.domain.fold_archive import evolve_archives
from shared.domain.fold_points import evolve_points
from shared.domain.fold_restores import evolve_restores
from shared.domain.fold_runs import end_run, progress, settle, skip, still_open
from shared.domain.host_state import HostState, RunState, SnapshotState, moment_of
from shared.domain.names import HOST_STREAM_PREFIX
from shared.domain.store_state import StoreState, measured
from shared.domain.tally import tally

CLOCK_JUMP_US: Final = 3 * 86_400 * 1_000_000
"""A host's stream hears something every hour: after so long a silence it is the clock that is doubted."""


class State(msgspec.Struct):
    """The whole system at a position of the log."""

    position: int = 0
    recorded_us: int = 0
    hosts: dict[str, HostState] = {}
    settings: dict[str, str] = {}
    settings_version: int = 0
    stores: dict[str, StoreState] = {}
    rejected_messages: int = 0
    host_of_stream: dict[str, HostState] = {}
    """The same hosts under the names of their event streams: found without making a string for each event."""

    def as_of(self) -> datetime:
        """The moment of the newest event in it."""
        return moment_of(self.recorded_us)


def replay(pages: Iterable[Iterable[Recorded]], state: State | None = None) -> State:
    """The state after these events."""
    state = State() if state is None else state
    for page in pages:
        evolve_page(state, page)
    return state


def evolve_page(state: State, page: Iterable[Recorded]) -> None:
    """Take many events into the state: like `evolve` with each, without two calls for each."""
    host_of, fold_of = state.host_of_stream, FOLD_OF
    for recorded in page:
        host = host_of.get(recorded.stream)
        if host is None:
            evolve(state, recorded)
            continue
        host.version = recorded.version
        event, recorded_us = recorded.event, recorded.recorded_us
        if recorded_us - host.recorded_us > CLOCK_JUMP_US and host.recorded_us:
            host.clock_doubt_us = recorded_us
        host.recorded_us = state.recorded_us = recorded_us
        state.position = recorded.position
        fold_of.get(type(event), _evolve_rarely)(host, event, recorded_us)


def evolve(state: State, recorded: Recorded) -> None:
    """Take one event into the state."""
    state.position = recorded.position
    state.recorded_us = recorded.recorded_us
    host = state.host_of_stream.get(recorded.stream)
    if host is None and recorded.stream.startswith(HOST_STREAM_PREFIX):
        host = _new_host(state, recorded.stream)
    if host is not None:
        evolve_host(host, recorded)
        return
    match recorded.event:
        case SettingsChanged(settings=settings):
            state.settings = settings
            state.settings_version = recorded.version
        case StoreEnrolled(store=store, uuid=uuid):
            state.stores.setdefault(store, StoreState()).uuid = uuid
        case StoreMeasured(store=store) as event:
            measured(state.stores.setdefault(store, StoreState()), event, recorded.recorded_us)
        case MessageRejected():
            state.rejected_messages += 1
        case _:
            pass  # a host's event in another stream says nothing about any host


def _new_host(state: State, stream: str) -> HostState:
    host = HostState()
    state.hosts[stream.removeprefix(HOST_STREAM_PREFIX)] = state.host_of_stream[stream] = host
    return host


def evolve_host(host: HostState, recorded: Recorded) -> None:
    """Take one event of the host's stream into its state."""
    host.version = recorded.version
    recorded_us = recorded.recorded_us
    if recorded_us - host.recorded_us > CLOCK_JUMP_US and host.recorded_us:
        host.clock_doubt_us = recorded_us
    host.recorded_us = recorded_us
    event = recorded.event
    FOLD_OF.get(type(event), _evolve_rarely)(host, event, recorded_us)


def _progressed(host: HostState, event: SnapshotProgressed, _: int) -> None:
    progress(host.run, event.run, event, event.files, event.transferred_bytes)


def _started(host: HostState, event: SnapshotStarted, recorded_us: int) -> None:
    still_open(host.run, event.run, host.left_open)
    host.run = RunState(event.run, event.slot, recorded_us, event.worker, event.attempt)
    host.offline_since_us = None
    if not host.has_points:
        host.kept_on = event.store


def _archived(host: HostState, event: ArchiveCompleted, recorded_us: int) -> None:
    evolve_archives(host, event, recorded_us)
    tally(host, event, recorded_us)


def _thinned(host: HostState, event: RetentionCompleted, recorded_us: int) -> None:
    evolve_points(host, event, recorded_us)
    tally(host, event, recorded_us)


def _nothing(_: HostState, __: object, ___: int) -> None:
    """Some events change nothing but the version."""


def _evolve_rarely(host: HostState, event: object, recorded_us: int) -> None:  # noqa: C901, PLR0912  # one line for each event
    match event:
        case SnapshotFailed() as event:
            _failed(host, event, recorded_us)
        case SnapshotAbandoned() as event:
            host.left_open.pop(event.run, None)
            end_run(host.run, event.run, "abandoned", recorded_us)
        case SnapshotCancelled() as event:
            host.left_open.pop(event.run, None)
            end_run(host.run, event.run, "cancelled", recorded_us, message=event.by)
            settle(host, Job.SNAPSHOT, event.slot)
        case HostMoved() as event:
            host.kept_on = event.target
        case SnapshotDiscovered() as event:
            host.kept_on = host.kept_on or event.store
            host.snapshots[event.snapshot] = SnapshotState(
                event.snapshot, event.slot, event.quality, event.files, event.size_bytes, run=event.run
            )
        case BackupRequested() as event:
            host.requested_slot = event.slot
        case HostFoundOffline() as event:
            if host.offline_since_us is None:
                host.offline_since_us = recorded_us
            host.offline_reason = event.reason
        case SlotSkipped() as event:
            skip(host, event.job, event.slot, recorded_us)
        case DryRunCompleted() as event:
            host.dry_run = event
        case HoldPlaced() as event:
            host.hold_reason = event.reason
            host.pinned = event.pinned
        case HoldReleased():
            host.hold_reason = ""
            host.pinned = None
        case AlertRaised() as event:
            host.last_alert = event.evidence
        case ClockTrusted():
            host.clock_doubt_us = None
            host.clock_trusted_us = recorded_us
        case event:
            _ = (
                evolve_archives(host, event, recorded_us)
                or evolve_points(host, event, recorded_us)
                or evolve_restores(host, event, recorded_us)
            )
    tally(host, event, recorded_us)


def _completed(host: HostState, event: SnapshotCompleted, recorded_us: int) -> None:
    host.left_open.pop(event.run, None)
    run = end_run(host.run, event.run, "completed", recorded_us)
    if run is not None:
        run.files = event.files
        run.transferred_bytes = event.transferred_bytes
        run.percent = 100
        run.eta_seconds = None
    host.runs_completed += 1
    host.snapshots[event.snapshot] = SnapshotState(
        event.snapshot,
        event.slot,
        event.quality,
        event.files,
        event.size_bytes,
        event.transferred_bytes,
        event.run,
        recorded_us,
    )
    settle(host, Job.SNAPSHOT, event.slot)
    tally(host, event, recorded_us)


def _failed(host: HostState, event: SnapshotFailed, recorded_us: int) -> None:
    host.left_open.pop(event.run, None)
    run = end_run(host.run, event.run, "failed", recorded_us)
    if run is not None:
        run.message = event.message
        run.hint = event.hint
    if event.final:
        host.runs_failed += 1
        settle(host, Job.SNAPSHOT, event.slot)


FOLD_OF: Final[dict[type, Callable[[HostState, Any, int], object]]] = {
    SnapshotProgressed: _progressed,
    SnapshotStarted: _started,
    SnapshotCompleted: _completed,
    **dict.fromkeys((ArchiveProgressed, ArchiveStarted), evolve_archives),
    **dict.fromkeys((PointTrashed, PointPurged, RetentionStarted), evolve_points),
    ArchiveCompleted: _archived,
    RetentionCompleted: _thinned,
    RemovalOrdered: _nothing,
}
"""The frequent ones go straight to what takes them in: asking of each event whether it is any of forty costs a third
of a replay."""
