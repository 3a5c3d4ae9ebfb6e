"""The guards of the retention, told once more from what the model has heard and what lies on the drive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from tests.faults.simulation.disk import Inode
from tests.faults.simulation.libc import FakeFcntl
from tests.faults.simulation.loop import here

DAY: Final = timedelta(days=1)
DOUBT: Final = timedelta(days=3)
TOLERANCE: Final = timedelta(minutes=5)
POLICY: Final = ("HOURLY_RETENTION_HOURS", "DAILY_RETENTION_DAYS", "RETENTION_MONTHS", "TAR_RETENTION_DAYS", "TZ")


@dataclass
class Known:
    """What the model has heard of a host."""

    heard: datetime | None = None
    doubted: bool = False
    held: bool = False
    pinned: datetime | None = None
    confirmed: frozenset[str] = frozenset()
    confirmed_at: datetime | None = None
    undeleted: dict[str, datetime] = field(default_factory=dict)
    trashed: dict[str, datetime] = field(default_factory=dict)
    ordered: set[tuple[str, str]] = field(default_factory=set)
    present: set[str] = field(default_factory=set)
    golden: dict[str, datetime] = field(default_factory=dict)
    """The slots that golden copies show, which their names do not say."""

    def agreed_to(self, key: str, now: datetime) -> bool:
        """Whether a person has agreed to a removal, less than a day ago."""
        return self.confirmed_at is not None and timedelta() <= now - self.confirmed_at <= DAY and key in self.confirmed

    def hear(self, kind: str, body: dict[str, Any], at: datetime) -> None:
        """Take in what is about no restore point."""
        match kind:
            case "HoldPlaced":
                self.held, self.pinned = True, None if body["pinned"] is None else instant(body["pinned"])
            case "HoldReleased":
                self.held = False
            case "ClockTrusted":
                self.doubted = False
            case "PlanConfirmed":
                self.confirmed, self.confirmed_at = frozenset(body["points"]), at

    def hear_of_point(self, kind: str, key: str, body: dict[str, Any], at: datetime) -> None:
        """Take in what happened to a restore point."""
        match kind:
            case "RemovalOrdered":
                self.ordered.add((str(body["run"]), key))
            case "PointTrashed":
                self.trashed[key] = at
                self.present.discard(key)
            case "PointUndeleted":
                self.undeleted[key] = at
                self.trashed.pop(key, None)
                self.present.add(key)
            case "PointPurged":
                self.undeleted.pop(key, None)
                self.trashed.pop(key, None)
            case "PointLost":
                self.present.discard(key)


@dataclass(frozen=True)
class Found:
    """A restore point on the drive, by its marker or record."""

    key: str
    name: str
    slot: datetime
    quality: str
    record: dict[str, Any]
    inode: Inode


@dataclass(frozen=True)
class Case:
    """A restore point that goes to the trash, and all there is to know about that. `number` counts those of a run."""

    points: list[Found]
    point: Found
    known: Known
    now: datetime
    settings: Any
    policy: dict[str, str]
    policy_at: datetime | None
    run: str
    number: int
    there: int
    lost: bool


def why_not(case: Case) -> Iterator[str]:
    """Every guard that says no."""
    point, known, now = case.point, case.known, case.now
    complete = [other for other in case.points if other.key.startswith("snapshot/") and other.quality == "complete"]
    left = [other for other in complete if other is not point and other.slot <= now + TOLERANCE]
    if point in complete and sum(other.slot >= point.slot for other in left) < 3:
        yield "and leaves fewer than three as new"
    if point.slot > now + TOLERANCE:
        yield "dated in the future"
    if known.held and (known.pinned is None or point.slot <= known.pinned):
        yield "although it is held"
    if FakeFcntl.LOCK_SH in point.inode.locks.values():
        yield "although it is in use"
    if in_doubt(known, now):
        yield "although the clock is in doubt"
    if case.lost:
        yield "although another is missing on the drive"
    if point.key in known.undeleted and now - known.undeleted[point.key] <= 30 * DAY:
        yield "although somebody brought it back"
    yield from _by_policy(case)
    yield from _unagreed(case)


def _by_policy(case: Case) -> Iterator[str]:
    point, settings, age = case.point, case.settings, case.now - case.point.slot
    kind = point.key.split("/")[0]
    if kind == "archive" and age <= settings.tar_retention_days * DAY:
        yield "younger than archives are kept"
    if kind == "golden" and age <= settings.retention_months * 28 * DAY:
        yield "younger than golden copies are kept"
    if kind != "snapshot":
        return
    if age <= timedelta(hours=settings.hourly_retention_hours):
        yield "younger than all are kept"
    same = [other for other in case.points if other.key.startswith("snapshot/") and other.quality == point.quality]
    first = not any(other.slot.date() == point.slot.date() and other.slot < point.slot for other in same)
    if point.quality == "complete" and first and age <= settings.daily_retention_days * DAY:
        yield "the first of its day"


def _unagreed(case: Case) -> Iterator[str]:
    known, now, point = case.known, case.now, case.point
    if not case.run:
        yield "and nobody ordered it"
    if known.agreed_to(point.key, now):
        return
    described = case.settings.described()
    if any(described[name] != case.policy.get(name) for name in POLICY):
        yield "by a policy that is not in force"
    if case.policy_at is not None and now - case.policy_at <= DAY:
        yield "although the policy is younger than a day"
    if case.number > max(2, case.there / 10):
        yield f"as number {case.number} of {case.there}"


def in_doubt(known: Known, now: datetime) -> bool:
    """Whether the clock is to be doubted, by the log of the host."""
    if known.heard is None:
        return False
    return known.doubted or now < known.heard - TOLERANCE or now - known.heard > DOUBT


def here_settings() -> Any:
    """The settings of the process whose code this is."""
    return here().settings  # type: ignore[attr-defined]


def instant(name: str) -> datetime:
    """The instant that a name says."""
    text = name.replace("_", "").replace("-", "")
    return datetime.strptime(text.ljust(14, "0"), "%Y%m%d%H%M%S").replace(tzinfo=UTC)


def slot_of(key: str) -> datetime:
    """The instant of a restore point by its name; the oldest there can be of a golden copy."""
    kind, name = key.split("/", 1)
    if kind == "archive":
        name = name.split("_", 2)[2].split(".")[0]
    return instant(name if kind != "golden" else f"{name}-01")
