"""What the log has not heard of the trash although the drive shows it. Pure."""

from __future__ import annotations

from services.retention import steps
from services.retention.facts import Drive
from shared.adapters.trash import Trashed
from shared.domain.events import NewEvent, PointPurged, PointTrashed, PointUndeleted, RetentionAbandoned
from shared.domain.host_state import HostState
from shared.domain.ids import derived_id, event_id
from shared.domain.names import HostName


def recovered(host: HostName, state: HostState, drive: Drive) -> list[NewEvent]:
    """The facts the log lacks, given that no run is under way (the caller holds the host's lock).

    A point that lies in the trash and that the log believes in its place was moved by a run that died before it
    could say so; one that the log believes in the trash and that is not there was purged by such a run, or brought
    back by somebody whose word was lost.
    """
    lying = {trashed.key for trashed in drive.trash}
    moved = [found for found in drive.trash if found.key not in state.trash and found.name in state.points(found.kind)]
    away = [Trashed(known.run, known.kind, known.point.name) for key, known in state.trash.items() if key not in lying]
    facts = [trashed_event(host, found) for found in moved]
    facts += [
        undeleted_event(host, known, "") if known.key in drive.points else purged_event(host, known, 0, 0.0)
        for known in away
    ]
    run = state.retention_run
    if run is not None and run.outcome == "running":
        facts.append(NewEvent(event_id(run.run, steps.ABANDONED), RetentionAbandoned(run=run.run, slot=run.slot)))
    return facts


def trashed_event(host: HostName, trashed: Trashed) -> NewEvent:
    """The fact that a point lies in the trash, under the same id whoever tells it."""
    fact = PointTrashed(run=trashed.run, kind=trashed.kind, point=trashed.name)
    return NewEvent(derived_id("trashed", host, str(trashed.run), trashed.key), fact)


def purged_event(host: HostName, trashed: Trashed, entries: int, duration_seconds: float) -> NewEvent:
    """The fact that a point is gone for good, under the same id whoever tells it."""
    fact = PointPurged(
        run=trashed.run, kind=trashed.kind, point=trashed.name, entries=entries, duration_seconds=duration_seconds
    )
    return NewEvent(derived_id("purged", host, str(trashed.run), trashed.key), fact)


def undeleted_event(host: HostName, trashed: Trashed, by: str) -> NewEvent:
    """The fact that a point was brought back, under the same id whoever tells it."""
    fact = PointUndeleted(kind=trashed.kind, point=trashed.name, by=by)
    return NewEvent(derived_id("undeleted", host, str(trashed.run), trashed.key), fact)
