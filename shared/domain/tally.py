"""How often each job of a host ended how, and in which hours a snapshot was taken or missed."""

from __future__ import annotations

from typing import Final

from shared.domain.event import Event, Job
from shared.domain.events_archive import ArchiveAbandoned, ArchiveCancelled, ArchiveCompleted, ArchiveFailed
from shared.domain.events_restore import RestoreAbandoned, RestoreCancelled, RestoreCompleted, RestoreFailed
from shared.domain.events_retention import (
    RetentionAbandoned,
    RetentionCancelled,
    RetentionCompleted,
    RetentionFailed,
)
from shared.domain.events_snapshot import SnapshotAbandoned, SnapshotCancelled, SnapshotCompleted, SnapshotFailed
from shared.domain.host_state import HostState

HOUR_US: Final = 3600 * 1_000_000
HOURS_REMEMBERED: Final = 32 * 24
"""What a strip of thirty days needs in any time zone."""

WENT_WELL: Final = 1
WENT_WRONG: Final = 2

OUTCOME_OF: Final[dict[type[Event], tuple[Job, str]]] = {
    SnapshotCompleted: (Job.SNAPSHOT, "completed"),
    SnapshotFailed: (Job.SNAPSHOT, "failed"),
    SnapshotCancelled: (Job.SNAPSHOT, "cancelled"),
    SnapshotAbandoned: (Job.SNAPSHOT, "abandoned"),
    ArchiveCompleted: (Job.ARCHIVE, "completed"),
    ArchiveFailed: (Job.ARCHIVE, "failed"),
    ArchiveCancelled: (Job.ARCHIVE, "cancelled"),
    ArchiveAbandoned: (Job.ARCHIVE, "abandoned"),
    RetentionCompleted: (Job.RETENTION, "completed"),
    RetentionFailed: (Job.RETENTION, "failed"),
    RetentionCancelled: (Job.RETENTION, "cancelled"),
    RetentionAbandoned: (Job.RETENTION, "abandoned"),
    RestoreCompleted: (Job.RESTORE, "completed"),
    RestoreFailed: (Job.RESTORE, "failed"),
    RestoreCancelled: (Job.RESTORE, "cancelled"),
    RestoreAbandoned: (Job.RESTORE, "abandoned"),
}
"""The events that end a run."""

_KEY_OF: Final[dict[type, str]] = {kind: f"{job} {outcome}" for kind, (job, outcome) in OUTCOME_OF.items()}
_MARK_OF: Final[dict[type, int]] = {
    SnapshotCompleted: WENT_WELL,
    SnapshotFailed: WENT_WRONG,
    SnapshotAbandoned: WENT_WRONG,
}


def tally(host: HostState, event: object, recorded_us: int) -> None:
    """Count an event that ends a run; others change nothing."""
    kind = type(event)
    key = _KEY_OF.get(kind)
    if key is None:
        return
    host.outcomes[key] = host.outcomes.get(key, 0) + 1
    mark = _MARK_OF.get(kind)
    if mark is None:
        return
    hour = recorded_us // HOUR_US
    host.hours[hour] = host.hours.get(hour, 0) | mark
    while len(host.hours) > HOURS_REMEMBERED:
        del host.hours[next(iter(host.hours))]
