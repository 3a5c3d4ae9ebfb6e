"""What the log has not heard although the drive shows it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from services.snapshotter import steps
from shared.adapters.markers import StoredSnapshot
from shared.domain.events import NewEvent, SnapshotAbandoned, SnapshotDiscovered
from shared.domain.host_state import HostState
from shared.domain.ids import derived_id, event_id


def recovered(state: HostState, snapshots: Sequence[StoredSnapshot], store: str) -> list[NewEvent]:
    """The facts the log lacks, given that no run is under way (the caller holds the host's lock).

    A snapshot of a run that the log knows is that run's completion, under the id it always had; any other was
    discovered. A run that is still open and left no snapshot was abandoned.
    """
    facts = []
    left = dict(state.left_open)
    if state.run is not None and state.run.outcome == "running":
        left[state.run.run] = state.run.slot
    last = state.run.run if state.run is not None else None
    for snapshot in snapshots:
        if snapshot.name in state.snapshots:
            continue
        event = snapshot.marker.event
        if event.run == last or event.run in left:
            facts.append(NewEvent(snapshot.marker.id, event))
        else:
            facts.append(NewEvent(derived_id("discovered", store, str(event.run)), _discovered(snapshot, store)))
    kept = {snapshot.marker.event.run for snapshot in snapshots}
    for run, slot in left.items():
        if run not in kept:
            facts.append(NewEvent(event_id(run, steps.ABANDONED), SnapshotAbandoned(run=run, slot=slot)))
    return facts


def _discovered(snapshot: StoredSnapshot, store: str) -> SnapshotDiscovered:
    event = snapshot.marker.event
    return SnapshotDiscovered(
        snapshot=snapshot.name,
        slot=event.slot,
        store=store,
        quality=event.quality,
        files=event.files,
        size_bytes=event.size_bytes,
        run=event.run,
    )
