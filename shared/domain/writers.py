"""Which service appends which events: the one place that says so. Provisioning writes it into the database.

What a service may append by the spool is less: an order and a person's decision are never told later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final

from shared.domain.event import Event
from shared.domain.events import (
    AlertRaised,
    AnyEvent,
    ArchiveAbandoned,
    ArchiveCancelled,
    ArchiveCompleted,
    ArchiveDiscovered,
    ArchiveFailed,
    ArchiveProgressed,
    ArchiveStarted,
    BackupRequested,
    ClockTrusted,
    DryRunCompleted,
    GoldenCompleted,
    GoldenDiscovered,
    GoldenFailed,
    HoldPlaced,
    HoldReleased,
    HostFoundOffline,
    HostMoved,
    LoggedIn,
    LoggedOut,
    LoginRefused,
    MessageRejected,
    PlanConfirmed,
    PointLost,
    PointPurged,
    PointTrashed,
    PointUndeleted,
    PurgeOrdered,
    RemovalOrdered,
    RequestRefused,
    RestoreAbandoned,
    RestoreCancelled,
    RestoreCompleted,
    RestoreFailed,
    RestoreProgressed,
    RestoreRequested,
    RestoreStarted,
    RetentionAbandoned,
    RetentionCancelled,
    RetentionCompleted,
    RetentionFailed,
    RetentionStarted,
    SettingsChanged,
    SetupLinkMade,
    SlotSkipped,
    SnapshotAbandoned,
    SnapshotCancelled,
    SnapshotCompleted,
    SnapshotDiscovered,
    SnapshotFailed,
    SnapshotProgressed,
    SnapshotStarted,
    StoreEnrolled,
    StoreMeasured,
    TokenMade,
    TokenRevoked,
    UserAdded,
    UserChanged,
    UserRemoved,
)


class Service(StrEnum):
    """Who has a user on the bus and a role in the database. The operator is the command line and its people."""

    SCHEDULER = "scheduler"
    SNAPSHOTTER = "snapshotter"
    ARCHIVER = "archiver"
    RETENTION = "retention"
    RESTORER = "restorer"
    API = "api"
    OPERATOR = "operator"


# A worker makes its drive known, and notes what it could not understand.
_OF_EVERY_WORKER: Final = (StoreEnrolled, MessageRejected)
_OF_SLOTS: Final = (SlotSkipped, DryRunCompleted)
# Whoever changes a user tells the log whatever it was not told yet, also for others.
_OF_USERS: Final = (
    UserAdded,
    UserChanged,
    UserRemoved,
    LoggedIn,
    LoggedOut,
    LoginRefused,
    TokenMade,
    TokenRevoked,
    SetupLinkMade,
)

WRITERS: Final[Mapping[Service, frozenset[type[AnyEvent]]]] = {
    Service.SCHEDULER: frozenset({BackupRequested, RequestRefused, SettingsChanged, MessageRejected}),
    Service.SNAPSHOTTER: frozenset(
        {
            *_OF_EVERY_WORKER,
            *_OF_SLOTS,
            SnapshotStarted,
            SnapshotProgressed,
            SnapshotCompleted,
            SnapshotFailed,
            SnapshotAbandoned,
            SnapshotDiscovered,
            SnapshotCancelled,
            HostFoundOffline,
            AlertRaised,
            HoldPlaced,
            StoreMeasured,
        }
    ),
    Service.ARCHIVER: frozenset(
        {
            *_OF_EVERY_WORKER,
            *_OF_SLOTS,
            ArchiveStarted,
            ArchiveProgressed,
            ArchiveCompleted,
            ArchiveFailed,
            ArchiveCancelled,
            ArchiveAbandoned,
            ArchiveDiscovered,
            GoldenCompleted,
            GoldenFailed,
            GoldenDiscovered,
        }
    ),
    Service.RETENTION: frozenset(
        {
            *_OF_EVERY_WORKER,
            *_OF_SLOTS,
            RetentionStarted,
            RetentionCompleted,
            RetentionFailed,
            RetentionCancelled,
            RetentionAbandoned,
            RemovalOrdered,
            PointTrashed,
            PointUndeleted,
            PurgeOrdered,
            PointPurged,
            AlertRaised,
            ClockTrusted,
        }
    ),
    Service.RESTORER: frozenset(
        {
            *_OF_EVERY_WORKER,
            RestoreStarted,
            RestoreProgressed,
            RestoreCompleted,
            RestoreFailed,
            RestoreCancelled,
            RestoreAbandoned,
        }
    ),
    Service.API: frozenset({*_OF_USERS, HoldPlaced, HoldReleased, RestoreRequested, RestoreCancelled}),
    Service.OPERATOR: frozenset(
        {
            *_OF_USERS,
            HoldReleased,
            HostMoved,
            PlanConfirmed,
            ClockTrusted,
            PointLost,
            PointUndeleted,
            RestoreRequested,
            RestoreCancelled,
        }
    ),
}

DECISIONS: Final[frozenset[type[AnyEvent]]] = frozenset(
    {RemovalOrdered, PurgeOrdered, PlanConfirmed, HoldReleased, HostMoved, PointLost, RestoreRequested, SettingsChanged}
)
"""Made on what the log says at that moment, so they never wait in a spool, whatever somebody wrote into one."""

WORKERS: Final = (Service.SNAPSHOTTER, Service.ARCHIVER, Service.RETENTION, Service.RESTORER)


def role_of(service: Service) -> str:
    """The service's role in the database."""
    return f"backup_{service}"


def type_names(types: Iterable[type[Event]]) -> tuple[str, ...]:
    """The names under which events are stored, sorted."""
    return tuple(sorted(kind.__name__ for kind in types))


def relayed_by(service: Service) -> frozenset[str]:
    """The types of event that this service takes out of a spool into the log: only its own, and no decisions."""
    return frozenset(type_names(WRITERS[service] - DECISIONS))
