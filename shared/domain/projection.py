"""The state of everything, computed from events by a fold.

`evolve` is the whole truth: replaying the log gives the same state as following it. The fold owns its state and
changes it in place (copying it for each of a million events would cost four times the rest of a replay); nobody
else does. Moments of recording stay the integers they came as until somebody looks: making them datetimes would be a
third of the fold.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, assert_never
from uuid import UUID

import msgspec

from shared.domain.events import (
    AlertRaised,
    BackupRequested,
    DryRunCompleted,
    HoldPlaced,
    HoldReleased,
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
from shared.domain.names import HOST_STREAM_PREFIX

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class SnapshotState(msgspec.Struct, gc=False):
    """A snapshot that exists."""

    name: str
    slot: datetime
    quality: Quality
    files: int
    size_bytes: int
    transferred_bytes: int = 0
    run: UUID | None = None
    taken_us: int | None = None

    @property
    def taken_at(self) -> datetime | None:
        """When it was completed, as the log saw it; None for one that was found on the drive."""
        return _moment(self.taken_us)


class RunState(msgspec.Struct, gc=False):
    """A run: `outcome` is running, completed, failed or abandoned."""

    run: UUID
    slot: datetime
    started_us: int
    worker: str = ""
    attempt: int = 1
    outcome: str = "running"
    ended_us: int | None = None
    message: str = ""
    hint: str = ""
    files: int = 0
    transferred_bytes: int = 0
    bytes_per_second: int = 0
    percent: int = 0
    eta_seconds: int | None = None

    @property
    def started_at(self) -> datetime:
        """When a worker claimed the slot."""
        return moment_of(self.started_us)

    @property
    def ended_at(self) -> datetime | None:
        """When it ended; None while it runs."""
        return _moment(self.ended_us)


class HostState(msgspec.Struct):
    """What is known of one host. `version` is that of its event stream."""

    version: int = 0
    snapshots: dict[str, SnapshotState] = {}
    run: RunState | None = None
    runs_completed: int = 0
    runs_failed: int = 0
    settled_slot: datetime | None = None
    requested_slot: datetime | None = None
    offline_since_us: int | None = None
    offline_reason: str = ""
    dry_run: DryRunCompleted | None = None
    hold_reason: str = ""
    pinned: str | None = None
    last_alert: str = ""

    @property
    def offline_since(self) -> datetime | None:
        """When it was first found not to answer; None while it does."""
        return _moment(self.offline_since_us)

    def newest(self, quality: Quality = Quality.COMPLETE) -> SnapshotState | None:
        """The newest snapshot of this quality."""
        names = [name for name, snapshot in self.snapshots.items() if snapshot.quality is quality]
        return self.snapshots[max(names)] if names else None

    def recent_complete(self, count: int) -> list[SnapshotState]:
        """The newest complete snapshots, newest first."""
        complete = [snapshot for snapshot in self.snapshots.values() if snapshot.quality is Quality.COMPLETE]
        return sorted(complete, key=lambda snapshot: snapshot.name, reverse=True)[:count]

    def attempts_at(self, slot: datetime) -> int:
        """How often this slot was tried."""
        return self.run.attempt if self.run is not None and self.run.slot == slot else 0


class State(msgspec.Struct):
    """The whole system at a position of the log."""

    position: int = 0
    recorded_us: int = 0
    hosts: dict[str, HostState] = {}
    settings: dict[str, str] = {}
    settings_version: int = 0
    stores: dict[str, UUID] = {}
    rejected_messages: int = 0
    host_of_stream: dict[str, HostState] = {}
    """The same hosts under the names of their event streams: found without making a string for each event."""

    def as_of(self) -> datetime:
        """The moment of the newest event in it."""
        return moment_of(self.recorded_us)


def moment_of(recorded_us: int) -> datetime:
    """The instant of so many microseconds since 1970, exactly."""
    return EPOCH + timedelta(microseconds=recorded_us)


def _moment(recorded_us: int | None) -> datetime | None:
    return None if recorded_us is None else moment_of(recorded_us)


def replay(pages: Iterable[Iterable[Recorded]], state: State | None = None) -> State:
    """The state after these events."""
    state = State() if state is None else state
    for page in pages:
        for recorded in page:
            evolve(state, recorded)
    return state


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
            state.stores[store] = uuid
        case MessageRejected():
            state.rejected_messages += 1
        case _:
            pass  # a host's event in another stream says nothing about any host


def _new_host(state: State, stream: str) -> HostState:
    host = HostState()
    state.hosts[stream.removeprefix(HOST_STREAM_PREFIX)] = state.host_of_stream[stream] = host
    return host


def evolve_host(host: HostState, recorded: Recorded) -> None:  # noqa: C901, PLR0912  # one line for each event
    """Take one event of the host's stream into its state."""
    host.version = recorded.version
    match recorded.event:
        case SnapshotProgressed() as event:
            _progress(host, event)
        case SnapshotStarted() as event:
            host.run = RunState(event.run, event.slot, recorded.recorded_us, worker=event.worker, attempt=event.attempt)
            host.offline_since_us = None
        case SnapshotCompleted() as event:
            _completed(host, event, recorded.recorded_us)
        case SnapshotFailed() as event:
            _failed(host, event, recorded.recorded_us)
        case SnapshotAbandoned() as event:
            _end_run(host, event.run, "abandoned", recorded.recorded_us)
        case SnapshotDiscovered() as event:
            host.snapshots[event.snapshot] = SnapshotState(
                event.snapshot, event.slot, event.quality, event.files, event.size_bytes, run=event.run
            )
        case BackupRequested() as event:
            host.requested_slot = event.slot
        case HostFoundOffline() as event:
            if host.offline_since_us is None:
                host.offline_since_us = recorded.recorded_us
            host.offline_reason = event.reason
        case SlotSkipped() as event:
            if event.job is Job.SNAPSHOT:
                _settle(host, event.slot)
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
        case RequestRefused() | SettingsChanged() | StoreEnrolled() | MessageRejected():
            pass  # they change nothing about the host
        case _ as unreachable:
            assert_never(unreachable)


def _settle(host: HostState, slot: datetime) -> None:
    if host.settled_slot is None or slot > host.settled_slot:
        host.settled_slot = slot


def _progress(host: HostState, event: SnapshotProgressed) -> None:
    run = host.run
    if run is not None and run.run.int == event.run.int:
        run.files = event.files
        run.transferred_bytes = event.transferred_bytes
        run.bytes_per_second = event.bytes_per_second
        run.percent = event.percent
        run.eta_seconds = event.eta_seconds


def _end_run(host: HostState, run: UUID, outcome: str, ended_us: int) -> RunState | None:
    if host.run is None or host.run.run.int != run.int:
        return None
    host.run.outcome = outcome
    host.run.ended_us = ended_us
    return host.run


def _completed(host: HostState, event: SnapshotCompleted, recorded_us: int) -> None:
    run = _end_run(host, event.run, "completed", recorded_us)
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
    _settle(host, event.slot)


def _failed(host: HostState, event: SnapshotFailed, recorded_us: int) -> None:
    run = _end_run(host, event.run, "failed", recorded_us)
    if run is not None:
        run.message = event.message
        run.hint = event.hint
    if event.final:
        host.runs_failed += 1
        _settle(host, event.slot)
