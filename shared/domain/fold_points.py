"""How removals change what is known of a host: a point is there, in the trash, or gone."""

from __future__ import annotations

from uuid import UUID

from shared.domain.event import Job, Kind
from shared.domain.events_retention import (
    PlanConfirmed,
    PointLost,
    PointPurged,
    PointTrashed,
    PointUndeleted,
    RetentionAbandoned,
    RetentionCancelled,
    RetentionCompleted,
    RetentionFailed,
    RetentionStarted,
)
from shared.domain.fold_runs import end_run, settle
from shared.domain.host_state import (
    ArchiveState,
    GoldenState,
    HostState,
    PointState,
    RunState,
    SnapshotState,
    TrashedPoint,
    point_key,
)


def evolve_points(host: HostState, event: object, recorded_us: int) -> bool:
    """Take an event of the retention into the state; False when it is none that changes anything."""
    match event:
        case PointTrashed():
            _trash(host, event.kind, event.point, event.run, recorded_us)
        case PointUndeleted():
            _undelete(host, event.kind, event.point)
            host.undeleted[point_key(event.kind, event.point)] = recorded_us
        case PointPurged():
            host.trash.pop(point_key(event.kind, event.point), None)
            host.undeleted.pop(point_key(event.kind, event.point), None)
        case PointLost():
            host.points(event.kind).pop(event.point, None)
            host.trash.pop(point_key(event.kind, event.point), None)
        case PlanConfirmed():
            host.confirmed, host.confirmed_us = event.points, recorded_us
        case _:
            return _evolve_run(host, event, recorded_us)
    return True


def _evolve_run(host: HostState, event: object, recorded_us: int) -> bool:
    match event:
        case RetentionStarted():
            host.retention_run = RunState(event.run, event.slot, recorded_us, event.worker, event.attempt)
        case RetentionCompleted():
            end_run(host.retention_run, event.run, "completed", recorded_us)
            host.last_retention = event
            settle(host, Job.RETENTION, event.slot)
        case RetentionFailed():
            end_run(host.retention_run, event.run, "failed", recorded_us, message=event.message, hint=event.hint)
            if event.final:
                settle(host, Job.RETENTION, event.slot)
        case RetentionCancelled():
            end_run(host.retention_run, event.run, "cancelled", recorded_us, message=event.by)
            settle(host, Job.RETENTION, event.slot)
        case RetentionAbandoned():
            end_run(host.retention_run, event.run, "abandoned", recorded_us)
        case _:
            return False
    return True


def _trash(host: HostState, kind: Kind, name: str, run: UUID, recorded_us: int) -> None:
    point: PointState | None = host.points(kind).pop(name, None)
    if point is not None:
        host.trash[point_key(kind, name)] = TrashedPoint(kind, point, run, recorded_us)


def _undelete(host: HostState, kind: Kind, name: str) -> None:
    trashed = host.trash.pop(point_key(kind, name), None)
    match trashed.point if trashed else None:
        case SnapshotState() as snapshot:
            host.snapshots[name] = snapshot
        case ArchiveState() as archive:
            host.archives[name] = archive
        case GoldenState() as golden:
            host.golden[name] = golden
        case None:
            pass  # it was not in the trash: another run has purged or undeleted it
