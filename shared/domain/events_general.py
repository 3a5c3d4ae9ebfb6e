"""Wishes, holds, alerts, settings: what is not about one restore point."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from shared.domain.event import Event, Job


class BackupRequested(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """Somebody asked for a run now. `by` is who says so, unchecked."""

    job: Job
    slot: datetime
    by: str = ""
    dry_run: bool = False


class RequestRefused(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A wish was not granted, and why: usually that the job is pending or running already."""

    job: Job
    slot: datetime
    reason: str


class SlotSkipped(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A slot passed without a run, and why."""

    job: Job
    slot: datetime
    reason: str


class DryRunCompleted(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A host was tried without writing into its tree. `findings` are sentences, worst first."""

    run: UUID
    slot: datetime
    job: Job
    ok: bool
    findings: tuple[str, ...] = ()


class HoldPlaced(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """Nothing at or before the pinned snapshot may be removed. `by` is who says so; empty when we do ourselves."""

    reason: str
    pinned: str | None
    by: str = ""


class HoldReleased(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A person lifted the hold, and why. `by` is who says so, unchecked."""

    reason: str
    by: str = ""


class AlertRaised(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """Something a person should look at; `evidence` is a sentence with the numbers in it."""

    kind: str
    evidence: str
    run: UUID | None = None


class SettingsChanged(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """The settings in force from now on, and the names of those that differ from before."""

    settings: dict[str, str]
    changed: tuple[str, ...]


class StoreEnrolled(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A drive became the store of this name."""

    store: str
    uuid: UUID


class HostMoved(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """All restore points of a host are on another store, compared with the old ones, which stay where they are.

    `source` and `target` are the stores, `by` is who says so.
    """

    source: str
    target: str
    points: int
    by: str = ""


class StoreMeasured(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """How full a drive is. `free_bytes` is what a worker may still take.

    `free_inodes` is null on file systems that make them as they go.
    """

    store: str
    total_bytes: int
    free_bytes: int
    total_inodes: int
    free_inodes: int | None


class MessageRejected(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A bus message that could not be understood. `preview` is its first bytes, escaped."""

    subject: str
    reason: str
    size_bytes: int
    preview: str


class ClockTrusted(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """The clock of the storage machine is right although it jumped, and how that is known."""

    reason: str
    by: str = ""
