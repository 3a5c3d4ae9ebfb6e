"""What happens to the snapshots of a host."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from shared.domain.event import Event, Quality


class SnapshotStarted(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A worker claimed the slot. `base` is the snapshot whose unchanged files will be shared, if any."""

    run: UUID
    slot: datetime
    store: str
    worker: str
    attempt: int = 1
    base: str | None = None


class SnapshotProgressed(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """How far a running transfer is. `eta_seconds` is null while unknown."""

    run: UUID
    files: int
    transferred_bytes: int
    bytes_per_second: int
    percent: int
    eta_seconds: int | None = None


class SnapshotCompleted(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A restore point exists and is on disk to stay.

    `shared_bytes` is what needed no transfer; `changes_digest` the SHA-256 of the stored change list.
    """

    run: UUID
    slot: datetime
    snapshot: str
    store: str
    quality: Quality
    base: str | None
    files: int
    directories: int
    symlinks: int
    size_bytes: int
    transferred_files: int
    transferred_bytes: int
    shared_bytes: int
    removed_files: int
    received_bytes: int
    duration_seconds: float
    exit_code: int
    changes_digest: str
    skipped_specials: int = 0
    warnings: tuple[str, ...] = ()


class SnapshotFailed(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A run ended without a restore point. `final` means this slot is not tried again."""

    run: UUID
    slot: datetime
    code: str
    message: str
    hint: str = ""
    attempt: int = 1
    final: bool = True
    exit_code: int | None = None


class SnapshotAbandoned(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A run's worker vanished without a word; its partial tree was removed."""

    run: UUID
    slot: datetime


class SnapshotDiscovered(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """The disk holds a complete snapshot that the log had never heard of."""

    snapshot: str
    slot: datetime
    store: str
    quality: Quality
    files: int
    size_bytes: int
    run: UUID | None = None


class HostFoundOffline(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """The host did not answer at this slot; it is tried again until the next one."""

    slot: datetime
    reason: str


class SnapshotCancelled(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A run was called off before its transfer began. `by` is who says so, unchecked."""

    run: UUID
    slot: datetime
    by: str = ""
