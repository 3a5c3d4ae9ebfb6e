"""What is known of one host: its restore points, its runs, what holds it.

Moments of recording stay the integers they came as until somebody looks: making them datetimes would be a third of
the fold.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from shared.domain.errors import NameRefused
from shared.domain.event import Job, Kind, Quality
from shared.domain.events_general import DryRunCompleted
from shared.domain.events_retention import RetentionCompleted
from shared.domain.names import parse_snapshot_name
from shared.domain.restore_state import RestoreState

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
CLOCKS_DIFFER: Final = timedelta(minutes=5)
"""How far the clocks of an installation may be apart without anybody wondering."""


class SnapshotState(msgspec.Struct, gc=False, tag=True):
    """A snapshot that exists."""

    name: str
    slot: datetime
    quality: Quality
    files: int
    size_bytes: int
    transferred_bytes: int = 0
    run: UUID | None = None
    taken_us: int | None = None

    @property
    def taken_at(self) -> datetime | None:
        """When it was completed, as the log saw it; None for one that was found on the drive."""
        return _moment(self.taken_us)


class ArchiveState(msgspec.Struct, gc=False, tag=True):
    """An archive that exists."""

    name: str
    slot: datetime
    snapshot: str
    members: int
    size_bytes: int
    sha256: str
    run: UUID | None = None
    taken_us: int | None = None

    @property
    def stands_for(self) -> datetime:
        """The instant by which it ages: its slot, or that of its snapshot where a wish came between two slots."""
        with suppress(NameRefused):
            return max(self.slot, parse_snapshot_name(self.snapshot))
        return self.slot


class GoldenState(msgspec.Struct, gc=False, tag=True):
    """A golden copy that exists."""

    name: str
    slot: datetime
    snapshot: str
    files: int
    size_bytes: int
    run: UUID | None = None
    taken_us: int | None = None


PointState = SnapshotState | ArchiveState | GoldenState


class TrashedPoint(msgspec.Struct, gc=False):
    """A restore point in the trash. `run` is the one that put it there."""

    kind: Kind
    point: PointState
    run: UUID
    trashed_us: int

    @property
    def trashed_at(self) -> datetime:
        """When it was put there."""
        return moment_of(self.trashed_us)


class RunState(msgspec.Struct, gc=False):
    """A run of any job: `outcome` is running, completed, failed, cancelled or abandoned.

    `files` are the members of an archive; `transferred_bytes` is what moved: over the wire, or into the archive.
    """

    run: UUID
    slot: datetime
    started_us: int
    worker: str = ""
    attempt: int = 1
    outcome: str = "running"
    ended_us: int | None = None
    message: str = ""
    hint: str = ""
    files: int = 0
    transferred_bytes: int = 0
    bytes_per_second: int = 0
    percent: int = 0
    eta_seconds: int | None = None

    @property
    def started_at(self) -> datetime:
        """When a worker claimed the slot."""
        return moment_of(self.started_us)

    @property
    def ended_at(self) -> datetime | None:
        """When it ended; None while it runs."""
        return _moment(self.ended_us)


class HostState(msgspec.Struct):
    """What is known of one host. `version` is that of its event stream; `trash` is keyed `kind/name`.

    `run` is the newest of the snapshot job. `clock_doubt_us` is when the clock was seen to jump and nobody has said
    since that it is right, `clock_trusted_us` when somebody last said so. `confirmed` are the removals a person
    agreed to at `confirmed_us`; `undeleted` says when
    (µs) which points came back from the trash. `outcomes` counts the runs ("snapshot failed") and `hours` tells of the
    last hours (since 1970, UTC) whether a snapshot went well (1) or wrong (2) in them; see tally.
    """

    version: int = 0
    recorded_us: int = 0
    snapshots: dict[str, SnapshotState] = {}
    archives: dict[str, ArchiveState] = {}
    golden: dict[str, GoldenState] = {}
    trash: dict[str, TrashedPoint] = {}
    run: RunState | None = None
    archive_run: RunState | None = None
    retention_run: RunState | None = None
    runs_completed: int = 0
    runs_failed: int = 0
    settled_slots: dict[Job, list[datetime]] = {}
    """The slots of a job that completed, failed for good, were skipped or cancelled; as many as are remembered."""
    requested_slot: datetime | None = None
    offline_since_us: int | None = None
    offline_reason: str = ""
    dry_run: DryRunCompleted | None = None
    hold_reason: str = ""
    pinned: str | None = None
    last_alert: str = ""
    last_golden_problem: str = ""
    last_retention: RetentionCompleted | None = None
    confirmed: tuple[str, ...] = ()
    confirmed_us: int = 0
    clock_doubt_us: int | None = None
    clock_trusted_us: int = 0
    undeleted: dict[str, int] = {}
    restores: dict[str, RestoreState] = {}
    outcomes: dict[str, int] = {}
    hours: dict[int, int] = {}
    kept_on: str = ""
    """The store that its restore points are on; empty while it has none and had none."""
    left_open: dict[UUID, datetime] = {}
    """The slots of snapshot runs after which another one began although nobody had said how they ended."""
    archives_left_open: dict[UUID, datetime] = {}

    @property
    def offline_since(self) -> datetime | None:
        """When it was first found not to answer; None while it does."""
        return _moment(self.offline_since_us)

    def newest(self, quality: Quality = Quality.COMPLETE) -> SnapshotState | None:
        """The newest snapshot of this quality."""
        names = [name for name, snapshot in self.snapshots.items() if snapshot.quality is quality]
        return self.snapshots[max(names)] if names else None

    def recent_complete(self, count: int) -> list[SnapshotState]:
        """The newest complete snapshots, newest first."""
        complete = [snapshot for snapshot in self.snapshots.values() if snapshot.quality is Quality.COMPLETE]
        return sorted(complete, key=lambda snapshot: snapshot.name, reverse=True)[:count]

    def used_bytes(self) -> int:
        """About how much of the drive this host takes: the newest snapshot, what each other one added, the archives."""
        newest = max(self.snapshots, default=None)
        added = [
            snapshot.size_bytes if name == newest else snapshot.transferred_bytes
            for name, snapshot in self.snapshots.items()
        ]
        return sum(added) + sum(archive.size_bytes for archive in self.archives.values())

    def run_of(self, job: Job) -> RunState | None:
        """The newest run of a job."""
        match job:
            case Job.SNAPSHOT:
                return self.run
            case Job.ARCHIVE:
                return self.archive_run
            case Job.RETENTION:
                return self.retention_run
            case Job.RESTORE:
                return None  # several may wait: see `restores`

    def settled(self, job: Job, now: datetime) -> datetime | None:
        """The newest settled slot of a job that is not one to come.

        A slot to come was settled by a clock that was ahead; counted before its time, it would keep the host from
        being backed up until then.
        """
        limit = now + CLOCKS_DIFFER
        return max((slot for slot in self.settled_slots.get(job, ()) if slot <= limit), default=None)

    def is_settled(self, job: Job, slot: datetime, now: datetime) -> bool:
        """Whether nothing is to be done for this slot any more."""
        settled = self.settled(job, now)
        return settled is not None and slot <= settled

    @property
    def has_points(self) -> bool:
        """Whether anything of it is kept, be it in the trash."""
        return bool(self.snapshots or self.archives or self.golden or self.trash)

    def attempts_at(self, slot: datetime, job: Job = Job.SNAPSHOT) -> int:
        """How often this slot was tried."""
        run = self.run_of(job)
        return run.attempt if run is not None and run.slot == slot else 0

    def points(self, kind: Kind) -> dict[str, SnapshotState] | dict[str, ArchiveState] | dict[str, GoldenState]:
        """The restore points of a kind by name; what is in the trash is not among them."""
        match kind:
            case Kind.SNAPSHOT:
                return self.snapshots
            case Kind.ARCHIVE:
                return self.archives
            case Kind.GOLDEN:
                return self.golden


def point_key(kind: Kind, name: str) -> str:
    """How a restore point is called where kinds are mixed."""
    return f"{kind}/{name}"


def moment_of(recorded_us: int) -> datetime:
    """The instant of so many microseconds since 1970, exactly."""
    return EPOCH + timedelta(microseconds=recorded_us)


def _moment(recorded_us: int | None) -> datetime | None:
    return None if recorded_us is None else moment_of(recorded_us)
