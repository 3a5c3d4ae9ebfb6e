"""What is removed, by which rule, and what came of it.

A removal is ordered first, then the point goes to the trash, and after a grace period it is purged. Only the last
step takes bytes away.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from shared.domain.event import Event, Kind


class RetentionStarted(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A worker claimed the slot. `policy` is the version of the policy in force."""

    run: UUID
    slot: datetime
    store: str
    worker: str
    policy: str
    attempt: int = 1


class RemovalOrdered(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A restore point is to go: by which policy, out of which tier, why, and what still covers its day.

    `covered_by` names points as `kind/name`, the nearest first.
    """

    run: UUID
    kind: Kind
    point: str
    policy: str
    tier: str
    reasons: tuple[str, ...]
    covered_by: tuple[str, ...]


class PointTrashed(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A restore point lies in the trash: out of every list, but whole, and it can be brought back."""

    run: UUID
    kind: Kind
    point: str


class PointUndeleted(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A restore point was brought back from the trash. `by` is who says so, unchecked."""

    kind: Kind
    point: str
    by: str = ""


class PurgeOrdered(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A restore point of the trash is to go for good: nothing that was recorded before this stood against it.

    `run` is the one that put it into the trash, `trashed_seconds` how long it has lain there.
    """

    run: UUID
    kind: Kind
    point: str
    trashed_seconds: float = 0.0


class PointPurged(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A restore point of the trash is gone for good."""

    run: UUID
    kind: Kind
    point: str
    entries: int = 0
    duration_seconds: float = 0.0


class PointLost(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A person says that a restore point which the log knows is not on the drive any more, and why."""

    kind: Kind
    point: str
    reason: str
    by: str = ""


class RetentionCompleted(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A plan was made and, unless `refused` says why not, carried out.

    Counts are restore points. `foreign` names what lies among them and is not ours: it is never touched.
    """

    run: UUID
    slot: datetime
    policy: str
    kept: int
    removed: int
    purged: int
    refused: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    duration_seconds: float = 0.0


class RetentionFailed(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A run ended early; what it had removed is told by its other events."""

    run: UUID
    slot: datetime
    code: str
    message: str
    hint: str = ""
    attempt: int = 1
    final: bool = True


class RetentionCancelled(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A run was called off between two removals, or while it purged. `by` is unchecked."""

    run: UUID
    slot: datetime
    by: str = ""


class RetentionAbandoned(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A run's worker vanished without a word."""

    run: UUID
    slot: datetime


class PlanConfirmed(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A person agrees that these points (`kind/name`) are removed, within a day. `by` is unchecked."""

    points: tuple[str, ...]
    by: str = ""
