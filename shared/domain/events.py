"""Every fact the log can hold.

The stored tag is the class name and never changes; a changed meaning is a new event. New fields get defaults,
so that every reader accepts what older writers wrote (tests/golden keeps one stored line of each type).
Sizes are bytes, durations seconds, times UTC.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

import msgspec

from shared.domain.errors import LogRefused
from shared.domain.event import Event, Job, Kind, Quality
from shared.domain.events_access import (
    LoggedIn,
    LoggedOut,
    LoginRefused,
    SetupLinkMade,
    TokenMade,
    TokenRevoked,
    UserAdded,
    UserChanged,
    UserRemoved,
)
from shared.domain.events_archive import (
    ArchiveAbandoned,
    ArchiveCancelled,
    ArchiveCompleted,
    ArchiveDiscovered,
    ArchiveFailed,
    ArchiveProgressed,
    ArchiveStarted,
    GoldenCompleted,
    GoldenDiscovered,
    GoldenFailed,
)
from shared.domain.events_general import (
    AlertRaised,
    BackupRequested,
    ClockTrusted,
    DryRunCompleted,
    HoldPlaced,
    HoldReleased,
    HostMoved,
    MessageRejected,
    RequestRefused,
    SettingsChanged,
    SlotSkipped,
    StoreEnrolled,
    StoreMeasured,
)
from shared.domain.events_restore import (
    RestoreAbandoned,
    RestoreCancelled,
    RestoreCompleted,
    RestoreFailed,
    RestoreProgressed,
    RestoreRequested,
    RestoreStarted,
)
from shared.domain.events_retention import (
    PlanConfirmed,
    PointLost,
    PointPurged,
    PointTrashed,
    PointUndeleted,
    PurgeOrdered,
    RemovalOrdered,
    RetentionAbandoned,
    RetentionCancelled,
    RetentionCompleted,
    RetentionFailed,
    RetentionStarted,
)
from shared.domain.events_snapshot import (
    HostFoundOffline,
    SnapshotAbandoned,
    SnapshotCancelled,
    SnapshotCompleted,
    SnapshotDiscovered,
    SnapshotFailed,
    SnapshotProgressed,
    SnapshotStarted,
)

AnyEvent = (
    SnapshotStarted
    | SnapshotProgressed
    | SnapshotCompleted
    | SnapshotFailed
    | SnapshotAbandoned
    | SnapshotDiscovered
    | HostFoundOffline
    | HostMoved
    | SnapshotCancelled
    | ArchiveStarted
    | ArchiveProgressed
    | ArchiveCompleted
    | ArchiveFailed
    | ArchiveCancelled
    | ArchiveAbandoned
    | ArchiveDiscovered
    | GoldenCompleted
    | GoldenFailed
    | GoldenDiscovered
    | RetentionStarted
    | RemovalOrdered
    | PointTrashed
    | PointUndeleted
    | PurgeOrdered
    | PointPurged
    | PointLost
    | RetentionCompleted
    | RetentionFailed
    | RetentionCancelled
    | RetentionAbandoned
    | PlanConfirmed
    | RestoreRequested
    | RestoreStarted
    | RestoreProgressed
    | RestoreCompleted
    | RestoreFailed
    | RestoreCancelled
    | RestoreAbandoned
    | BackupRequested
    | RequestRefused
    | SlotSkipped
    | DryRunCompleted
    | HoldPlaced
    | HoldReleased
    | AlertRaised
    | SettingsChanged
    | StoreEnrolled
    | StoreMeasured
    | MessageRejected
    | ClockTrusted
    | UserAdded
    | UserChanged
    | UserRemoved
    | LoggedIn
    | LoggedOut
    | LoginRefused
    | TokenMade
    | TokenRevoked
    | SetupLinkMade
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

__all__ = [
    "AlertRaised",
    "AnyEvent",
    "ArchiveAbandoned",
    "ArchiveCancelled",
    "ArchiveCompleted",
    "ArchiveDiscovered",
    "ArchiveFailed",
    "ArchiveProgressed",
    "ArchiveStarted",
    "BackupRequested",
    "ClockTrusted",
    "DryRunCompleted",
    "Event",
    "GoldenCompleted",
    "GoldenDiscovered",
    "GoldenFailed",
    "HoldPlaced",
    "HoldReleased",
    "HostFoundOffline",
    "HostMoved",
    "Job",
    "Kind",
    "LoggedIn",
    "LoggedOut",
    "LoginRefused",
    "MessageRejected",
    "NewEvent",
    "PlanConfirmed",
    "PointLost",
    "PointPurged",
    "PointTrashed",
    "PointUndeleted",
    "PurgeOrdered",
    "Quality",
    "Recorded",
    "RemovalOrdered",
    "RequestRefused",
    "RestoreAbandoned",
    "RestoreCancelled",
    "RestoreCompleted",
    "RestoreFailed",
    "RestoreProgressed",
    "RestoreRequested",
    "RestoreStarted",
    "RetentionAbandoned",
    "RetentionCancelled",
    "RetentionCompleted",
    "RetentionFailed",
    "RetentionStarted",
    "SettingsChanged",
    "SetupLinkMade",
    "SlotSkipped",
    "SnapshotAbandoned",
    "SnapshotCancelled",
    "SnapshotCompleted",
    "SnapshotDiscovered",
    "SnapshotFailed",
    "SnapshotProgressed",
    "SnapshotStarted",
    "StoreEnrolled",
    "StoreMeasured",
    "TokenMade",
    "TokenRevoked",
    "UserAdded",
    "UserChanged",
    "UserRemoved",
    "decode_event",
    "decode_page",
    "encode_event",
]
