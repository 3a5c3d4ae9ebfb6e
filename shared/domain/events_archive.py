"""What the heavy pipeline makes: archives and golden copies."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from shared.domain.event import Event, Quality


class ArchiveStarted(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A worker claimed the slot of the heavy pipeline. `snapshot` is what it packs, `golden` the month it copies."""

    run: UUID
    slot: datetime
    store: str
    worker: str
    snapshot: str
    attempt: int = 1
    golden: str | None = None


class ArchiveProgressed(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """How far packing is: what was read of the snapshot, what was written of the archive."""

    run: UUID
    members: int
    read_bytes: int
    written_bytes: int
    bytes_per_second: int
    percent: int
    eta_seconds: int | None = None


class ArchiveCompleted(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """An archive exists, was read back, and is on disk to stay.

    `source_bytes` is the length of the tar stream, `size_bytes` that of the file, `sha256` its hex digest.
    """

    run: UUID
    slot: datetime
    archive: str
    snapshot: str
    store: str
    members: int
    source_bytes: int
    size_bytes: int
    sha256: str
    duration_seconds: float
    warnings: tuple[str, ...] = ()


class ArchiveFailed(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A run ended without an archive. `final` means this slot is not tried again."""

    run: UUID
    slot: datetime
    code: str
    message: str
    hint: str = ""
    attempt: int = 1
    final: bool = True


class ArchiveCancelled(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A run of the heavy pipeline was called off; what it had written was removed. `by` is unchecked."""

    run: UUID
    slot: datetime
    by: str = ""


class ArchiveAbandoned(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A run's worker vanished without a word; what it had written was removed."""

    run: UUID
    slot: datetime


class ArchiveDiscovered(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """The disk holds a complete archive that the log had never heard of."""

    archive: str
    slot: datetime
    store: str
    snapshot: str
    members: int
    size_bytes: int
    sha256: str
    run: UUID | None = None


class GoldenCompleted(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """The golden copy of a month exists. `golden` is its name (2026-03), `snapshot` what it is a copy of."""

    run: UUID
    slot: datetime
    golden: str
    snapshot: str
    store: str
    quality: Quality
    files: int
    directories: int
    symlinks: int
    size_bytes: int
    duration_seconds: float


class GoldenFailed(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """The golden copy of a month could not be made; the next run of the heavy pipeline tries again."""

    run: UUID
    slot: datetime
    golden: str
    code: str
    message: str
    hint: str = ""


class GoldenDiscovered(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """The disk holds a complete golden copy that the log had never heard of."""

    golden: str
    slot: datetime
    store: str
    snapshot: str
    files: int
    size_bytes: int
    run: UUID | None = None
