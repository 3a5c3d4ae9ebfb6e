"""Values for tests: everything has a default, so that a test names only what it is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeVar, get_args
from uuid import UUID

from shared.adapters.postgres import EventLog
from shared.config import BusTiming, HostSettings, Settings
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
    Event,
    GoldenCompleted,
    GoldenDiscovered,
    GoldenFailed,
    HoldPlaced,
    HoldReleased,
    HostFoundOffline,
    HostMoved,
    Job,
    Kind,
    LoggedIn,
    LoggedOut,
    LoginRefused,
    MessageRejected,
    NewEvent,
    PlanConfirmed,
    PointLost,
    PointPurged,
    PointTrashed,
    PointUndeleted,
    PurgeOrdered,
    Quality,
    Recorded,
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
from shared.domain.ids import event_id, run_id
from shared.domain.messages import Tick
from shared.domain.names import HostName, StoreName, snapshot_name

SLOT: Final = datetime(2026, 3, 6, 8, tzinfo=UTC)
RUN: Final = UUID("019cc238-2c00-7abc-8def-012345670000")
STORE_UUID: Final = UUID("6f1c1f6e-6a0e-4e1c-9a3e-0d6b1c1f6e6a")
HOST: Final = HostName("nas")
MAIN: Final = StoreName("main")
RESTORE: Final = UUID("019cc238-2c00-7abc-8def-0123456e0000")
ARCHIVE: Final = "backup_nas_2026-03-06_0800.tar.gz"

EVENT_TYPES: Final[tuple[type[AnyEvent], ...]] = get_args(AnyEvent)

_NUMBERS: Final = count(1)
_Event = TypeVar("_Event", bound=Event)

DEFAULTS: Final[dict[type[Event], dict[str, Any]]] = {
    BackupRequested: {"job": Job.SNAPSHOT, "slot": SLOT, "by": "alice"},
    RequestRefused: {"job": Job.SNAPSHOT, "slot": SLOT, "reason": "already running"},
    SnapshotStarted: {"run": RUN, "slot": SLOT, "store": "main", "worker": "worker-1"},
    SnapshotProgressed: {
        "run": RUN,
        "files": 120,
        "transferred_bytes": 4_096,
        "bytes_per_second": 1_024,
        "percent": 40,
        "eta_seconds": 9,
    },
    SnapshotCompleted: {
        "run": RUN,
        "slot": SLOT,
        "snapshot": snapshot_name(SLOT),
        "store": "main",
        "quality": Quality.COMPLETE,
        "base": None,
        "files": 300,
        "directories": 20,
        "symlinks": 3,
        "size_bytes": 10_000,
        "transferred_files": 300,
        "transferred_bytes": 10_000,
        "shared_bytes": 0,
        "removed_files": 0,
        "received_bytes": 11_000,
        "duration_seconds": 1.5,
        "exit_code": 0,
        "changes_digest": "ab" * 32,
    },
    SnapshotFailed: {"run": RUN, "slot": SLOT, "code": "rsync_12", "message": "rsync ended with code 12."},
    SnapshotAbandoned: {"run": RUN, "slot": SLOT},
    SnapshotDiscovered: {
        "snapshot": snapshot_name(SLOT),
        "slot": SLOT,
        "store": "main",
        "quality": Quality.COMPLETE,
        "files": 300,
        "size_bytes": 10_000,
    },
    HostMoved: {"source": MAIN, "target": "second", "points": 7},
    HostFoundOffline: {"slot": SLOT, "reason": "no route to host"},
    SlotSkipped: {"job": Job.SNAPSHOT, "slot": SLOT, "reason": "the host was offline"},
    DryRunCompleted: {"run": RUN, "slot": SLOT, "job": Job.SNAPSHOT, "ok": True},
    HoldPlaced: {"reason": "the source shrank", "pinned": snapshot_name(SLOT), "by": "alice"},
    HoldReleased: {"reason": "The home was cleaned up.", "by": "alice"},
    AlertRaised: {"kind": "shrunken", "evidence": "10 files instead of 300."},
    SettingsChanged: {"settings": {"TZ": "UTC"}, "changed": ("TZ",)},
    StoreEnrolled: {"store": "main", "uuid": STORE_UUID},
    StoreMeasured: {
        "store": "main",
        "total_bytes": 10**12,
        "free_bytes": 4 * 10**11,
        "total_inodes": 10**7,
        "free_inodes": 9 * 10**6,
    },
    SnapshotCancelled: {"run": RUN, "slot": SLOT},
    ArchiveStarted: {"run": RUN, "slot": SLOT, "store": "main", "worker": "worker-1", "snapshot": snapshot_name(SLOT)},
    ArchiveProgressed: {
        "run": RUN,
        "members": 120,
        "read_bytes": 4_096,
        "written_bytes": 1_024,
        "bytes_per_second": 2_048,
        "percent": 40,
        "eta_seconds": 9,
    },
    ArchiveCompleted: {
        "run": RUN,
        "slot": SLOT,
        "archive": ARCHIVE,
        "snapshot": snapshot_name(SLOT),
        "store": "main",
        "members": 323,
        "source_bytes": 20_480,
        "size_bytes": 5_000,
        "sha256": "cd" * 32,
        "duration_seconds": 2.5,
    },
    ArchiveFailed: {"run": RUN, "slot": SLOT, "code": "tar", "message": "tar ended with code 2."},
    ArchiveCancelled: {"run": RUN, "slot": SLOT},
    ArchiveAbandoned: {"run": RUN, "slot": SLOT},
    ArchiveDiscovered: {
        "archive": ARCHIVE,
        "slot": SLOT,
        "store": "main",
        "snapshot": snapshot_name(SLOT),
        "members": 323,
        "size_bytes": 5_000,
        "sha256": "cd" * 32,
    },
    GoldenCompleted: {
        "run": RUN,
        "slot": SLOT,
        "golden": "2026-03",
        "snapshot": snapshot_name(SLOT),
        "store": "main",
        "quality": Quality.COMPLETE,
        "files": 300,
        "directories": 20,
        "symlinks": 3,
        "size_bytes": 10_000,
        "duration_seconds": 0.5,
    },
    GoldenFailed: {"run": RUN, "slot": SLOT, "golden": "2026-03", "code": "links", "message": "Too many links."},
    GoldenDiscovered: {
        "golden": "2026-03",
        "slot": SLOT,
        "store": "main",
        "snapshot": snapshot_name(SLOT),
        "files": 300,
        "size_bytes": 10_000,
    },
    RetentionStarted: {"run": RUN, "slot": SLOT, "store": "main", "worker": "worker-1", "policy": "5e1f"},
    RemovalOrdered: {
        "run": RUN,
        "kind": Kind.SNAPSHOT,
        "point": snapshot_name(SLOT),
        "policy": "5e1f",
        "tier": "expired",
        "reasons": ("older than 720 hours, and not the first of 2026-03-06",),
        "covered_by": ("snapshot/2026-03-06_0000",),
    },
    PointTrashed: {"run": RUN, "kind": Kind.SNAPSHOT, "point": snapshot_name(SLOT)},
    PointUndeleted: {"kind": Kind.SNAPSHOT, "point": snapshot_name(SLOT)},
    PurgeOrdered: {"run": RUN, "kind": Kind.SNAPSHOT, "point": snapshot_name(SLOT), "trashed_seconds": 90_000.0},
    PointPurged: {"run": RUN, "kind": Kind.SNAPSHOT, "point": snapshot_name(SLOT)},
    PointLost: {"kind": Kind.SNAPSHOT, "point": snapshot_name(SLOT), "reason": "The drive was repaired."},
    RetentionCompleted: {"run": RUN, "slot": SLOT, "policy": "5e1f", "kept": 40, "removed": 2, "purged": 1},
    RetentionFailed: {"run": RUN, "slot": SLOT, "code": "drive", "message": "The drive failed."},
    RetentionCancelled: {"run": RUN, "slot": SLOT},
    RetentionAbandoned: {"run": RUN, "slot": SLOT},
    PlanConfirmed: {"points": (f"snapshot/{snapshot_name(SLOT)}",)},
    RestoreRequested: {
        "restore": RESTORE,
        "slot": SLOT,
        "kind": Kind.SNAPSHOT,
        "point": snapshot_name(SLOT),
        "target": "folder",
    },
    RestoreStarted: {"run": RUN, "slot": SLOT, "restore": RESTORE, "store": "main", "worker": "worker-1"},
    RestoreProgressed: {
        "run": RUN,
        "restore": RESTORE,
        "stage": "transfer",
        "files": 100,
        "transferred_bytes": 4_096,
        "bytes_per_second": 2_048,
        "percent": 40,
        "eta_seconds": 9,
    },
    RestoreCompleted: {
        "run": RUN,
        "slot": SLOT,
        "restore": RESTORE,
        "places": ("/srv/restored/nas_2026-03-06_0800_20260306T090000Z",),
        "files": 300,
        "directories": 20,
        "size_bytes": 10_000,
        "verified_files": 300,
        "duration_seconds": 2.5,
    },
    RestoreFailed: {"run": RUN, "slot": SLOT, "restore": RESTORE, "code": "differs", "message": "1 file differs."},
    RestoreCancelled: {"slot": SLOT, "restore": RESTORE},
    RestoreAbandoned: {"run": RUN, "slot": SLOT, "restore": RESTORE},
    ClockTrusted: {"reason": "The battery was changed."},
    MessageRejected: {"subject": "tick.snapshot.main.nas", "reason": "no JSON", "size_bytes": 3, "preview": "abc"},
    UserAdded: {"user": "alice", "role": "operator"},
    UserChanged: {"user": "alice", "what": "the password"},
    UserRemoved: {"user": "alice"},
    LoggedIn: {"user": "alice"},
    LoggedOut: {"user": "alice"},
    LoginRefused: {},
    TokenMade: {"user": "alice", "token": "ci"},
    TokenRevoked: {"user": "alice", "token": "ci"},
    SetupLinkMade: {},
}


def build(event_type: type[_Event], /, **fields: Any) -> _Event:
    """An event of this type; what is not given has a default."""
    return event_type(**{**DEFAULTS[event_type], **fields})


def one_of_each() -> list[AnyEvent]:
    """An event of every type there is."""
    return [build(kind) for kind in EVENT_TYPES]


def a_run(number: int | None = None) -> UUID:
    """A run id that no other call returns; the same for the same number."""
    return run_id(1_772_784_000_000, next(_NUMBERS) + 2**40 if number is None else number)


def new(event: AnyEvent, *, run: UUID | None = None, step: int = 1) -> NewEvent:
    """The event on its way into the log, under an id of its own."""
    return NewEvent(event_id(run or a_run(), step), event)


def alerts(number: int, *, prefix: str = "alert") -> list[NewEvent]:
    """So many different events that may stand in any stream; their `evidence` counts from 1."""
    run = a_run()
    return [
        NewEvent(event_id(run, step), build(AlertRaised, evidence=f"{prefix} {step}")) for step in range(1, number + 1)
    ]


def recorded(event: AnyEvent, position: int = 1, *, version: int = 1, stream: str = f"host-{HOST}") -> Recorded:
    """The event as the log gives it back, one second after the one before."""
    at = SLOT + timedelta(seconds=position)
    return Recorded(position, int(at.timestamp()) * 1_000_000, stream, version, event)


def a_snapshot_story(slot: datetime, **completed: Any) -> list[NewEvent]:
    """A run that begins, moves and completes."""
    run = a_run()
    name = snapshot_name(slot)
    story: Sequence[AnyEvent] = (
        build(SnapshotStarted, run=run, slot=slot),
        build(SnapshotProgressed, run=run),
        build(SnapshotCompleted, run=run, slot=slot, snapshot=name, **completed),
    )
    return [NewEvent(event_id(run, step), event) for step, event in enumerate(story, start=1)]


def a_tick(
    host: str = HOST, slot: datetime = SLOT, *, job: Job = Job.SNAPSHOT, store: str = MAIN, dry_run: bool = False
) -> Tick:
    """A tick, for a snapshot unless another job is given."""
    return Tick(job, StoreName(store), HostName(host), slot, dry_run)


def a_host(name: str = HOST, **fields: Any) -> HostSettings:
    """The settings of a host."""
    return HostSettings(name=HostName(name), **fields)


def some_settings(hosts: Sequence[str] = (HOST,), *, root: Path = Path("/nowhere"), **fields: Any) -> Settings:
    """The settings of an installation; nothing is at `root` unless the test put it there."""
    return Settings(
        backup_root=root / "drive",
        data_dir=root / "data",
        hosts=tuple(a_host(name) for name in hosts),
        timing=fields.pop("timing", BusTiming()),
        **fields,
    )


async def everything(log: EventLog, upto: int | None = None) -> list[Recorded]:
    """The whole log, in order."""
    return [event async for page in log.pages(0, upto) for event in page]


async def first_that(log: EventLog, wanted: Callable[[Recorded], bool], *, after: int = 0) -> Recorded:
    """Wait for an event that somebody else records; the caller bounds the time."""
    async with aclosing(log.follow(after)) as pages:
        async for page in pages:
            for event in page:
                if wanted(event):
                    return event
    raise AssertionError("following ends only with an error")
