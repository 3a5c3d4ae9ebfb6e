"""Every fact the log can hold.

The stored tag is the class name and never changes; a changed meaning is a new event. New fields get defaults,
so that every reader accepts what older writers wrote (tests/golden keeps one stored line of each type).
Sizes are bytes, durations seconds, times UTC.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from shared.domain.errors import LogRefused


class Job(StrEnum):
    """What a worker does for one host."""

    SNAPSHOT = "snapshot"
    ARCHIVE = "archive"
    RETENTION = "retention"


class Quality(StrEnum):
    """How far a finished snapshot can be trusted; only complete ones count as kept."""

    COMPLETE = "complete"
    DEGRADED = "degraded"
    SUSPECT = "suspect"


class Event(msgspec.Struct, frozen=True, gc=False, tag=True, tag_field="type"):
    """A past-tense fact."""


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
    """Nothing at or before the pinned snapshot may be removed."""

    reason: str
    pinned: str | None


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


class MessageRejected(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A bus message that could not be understood. `preview` is its first bytes, escaped."""

    subject: str
    reason: str
    size_bytes: int
    preview: str


AnyEvent = (
    BackupRequested
    | RequestRefused
    | SnapshotStarted
    | SnapshotProgressed
    | SnapshotCompleted
    | SnapshotFailed
    | SnapshotAbandoned
    | SnapshotDiscovered
    | HostFoundOffline
    | SlotSkipped
    | DryRunCompleted
    | HoldPlaced
    | HoldReleased
    | AlertRaised
    | SettingsChanged
    | StoreEnrolled
    | MessageRejected
)


class Recorded(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """An event and its place in the log. `recorded_us` is microseconds since 1970, UTC."""

    position: int
    recorded_us: int
    stream: str
    version: int
    event: AnyEvent


class NewEvent(msgspec.Struct, frozen=True, gc=False):
    """An event on its way into the log, under an id that makes a second recording harmless."""

    id: UUID
    event: AnyEvent


_ENCODER: Final = msgspec.json.Encoder()
_EVENT_DECODER: Final[msgspec.json.Decoder[AnyEvent]] = msgspec.json.Decoder(AnyEvent)
_PAGE_DECODER: Final = msgspec.json.Decoder(Recorded)


def encode_event(event: AnyEvent) -> str:
    """The event as the JSON text that is stored and hashed."""
    return _ENCODER.encode(event).decode()


def decode_event(text: str | bytes) -> AnyEvent:
    """The event of a stored JSON text. Raises LogRefused for one this version does not know."""
    try:
        return _EVENT_DECODER.decode(text)
    except msgspec.MsgspecError as error:
        raise LogRefused(f"An event cannot be read: {error}.", _UPGRADE) from error


def decode_page(text: str) -> list[Recorded]:
    """A page of the log: lines of [position, µs, stream, version, event]. Raises LogRefused."""
    try:
        return _PAGE_DECODER.decode_lines(text)
    except msgspec.MsgspecError as error:
        raise LogRefused(f"A page of the log cannot be read: {error}.", _UPGRADE) from error


_UPGRADE = "It was probably written by a newer version of Backup Manager: upgrade this one."
