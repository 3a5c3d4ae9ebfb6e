"""What the log has not heard of the trash although the drive shows it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from services.retention import steps
from shared.adapters.trash import Trashed
from shared.domain.events import NewEvent, PointPurged, PointTrashed, RetentionAbandoned
from shared.domain.host_state import HostState
from shared.domain.ids import derived_id, event_id
from shared.domain.names import HostName


def recovered(host: HostName, state: HostState, trash: Sequence[Trashed]) -> list[NewEvent]:
    """The facts the log lacks, given that no run is under way (the caller holds the host's lock).

    A point that lies in the trash and that the log believes in its place was moved by a run that died before it
    could say so; one that the log believes in the trash and that is not there was purged by such a run.
    """
    lying = {trashed.key for trashed in trash}
    moved = [found for found in trash if found.key not in state.trash and found.name in state.points(found.kind)]
    gone = [known for key, known in state.trash.items() if key not in lying]
    facts = [trashed_event(host, found) for found in moved]
    facts += [purged_event(host, Trashed(known.run, known.kind, known.point.name), 0, 0.0) for known in gone]
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
