"""The rule of the retention once more, slow and plain: what must stay is looked for point by point.

It shares no code with shared.domain but names and types, and takes no shortcut: what is right here is right to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from shared.domain.events import Kind, Quality
from shared.domain.policy import Policy
from shared.domain.retention import Facts, Hold, Point

QUALITIES = (Quality.COMPLETE, Quality.DEGRADED, Quality.SUSPECT)


def counted(points: Iterable[Point], now: datetime) -> list[Point]:
    return [point for point in points if point.slot <= now + timedelta(minutes=5)]


def complete(points: Iterable[Point]) -> list[Point]:
    return [point for point in points if (point.kind, point.quality) == (Kind.SNAPSHOT, Quality.COMPLETE)]


def promised(points: Iterable[Point], policy: Policy, now: datetime) -> set[str]:
    """The keys of what the tiers promise to keep of all points there ever were."""
    there = counted(points, now)
    zone = ZoneInfo(policy.time_zone)
    kept = {point.key for point in there if _is_young(point, policy, now, zone)}
    snapshots = [point for point in there if point.kind is Kind.SNAPSHOT]
    for first in firsts(snapshots, zone, "%Y-%m-%d"):
        if (now - first.slot).total_seconds() <= policy.daily_days * 86_400:
            kept.add(first.key)
    for first in firsts(snapshots, zone, "%Y-%m"):
        if now <= end_of_months(first.slot, policy.monthly_months, zone):
            kept.add(first.key)
    return kept


def _is_young(point: Point, policy: Policy, now: datetime, zone: ZoneInfo) -> bool:
    seconds = (now - point.slot).total_seconds()
    if point.kind is Kind.SNAPSHOT:
        return seconds <= policy.hourly_hours * 3600
    if point.kind is Kind.ARCHIVE:
        return seconds <= policy.archive_days * 86_400
    return now <= end_of_months(point.slot, policy.golden_months, zone)


def firsts(snapshots: Iterable[Point], zone: ZoneInfo, pattern: str) -> list[Point]:
    """The earliest of the best quality of each day or month."""
    groups: dict[str, list[Point]] = {}
    for point in snapshots:
        groups.setdefault(f"{point.slot.astimezone(zone):{pattern}}", []).append(point)
    return [min(group, key=_best_then_earliest) for group in groups.values()]


def _best_then_earliest(point: Point) -> tuple[int, datetime, str]:
    return QUALITIES.index(point.quality), point.slot, point.name


def end_of_months(slot: datetime, months: int, zone: ZoneInfo) -> datetime:
    """The instant at which so many months after a slot are over; the later one where the clocks leave a choice."""
    local = slot.astimezone(zone).replace(tzinfo=None)
    whole = local.year * 12 + local.month - 1 + months
    for day in range(local.day, 0, -1):
        try:
            wall = local.replace(year=whole // 12, month=whole % 12 + 1, day=day)
            break
        except ValueError:
            continue
    around = [(wall + timedelta(days=days)).replace(tzinfo=zone).utcoffset() for days in (-1, 1)]
    instants = [(wall - (offset or timedelta())).replace(tzinfo=UTC) for offset in around]
    shown = [instant for instant in instants if instant.astimezone(zone).replace(tzinfo=None) == wall]
    return max(shown or instants)


def guarded(facts: Facts, now: datetime, hold: Hold | None) -> dict[str, set[str]]:
    """By guard, the keys that it protects."""
    there = counted(facts.points, now)
    snapshots = [point for point in there if point.kind is Kind.SNAPSHOT]
    whole = complete(there)
    verified = [point for point in snapshots if point.verified]
    keys = {point.key for point in facts.points}
    return {
        "newest complete": _newest(whole),
        "newest verified": _newest_ones(verified),
        "floor": {point.key for point in sorted(whole, key=_age)[-3:]},
        "newest archive": _newest_ones(point for point in there if point.kind is Kind.ARCHIVE),
        "newest golden": _newest_ones(point for point in there if point.kind is Kind.GOLDEN),
        "current": keys & {f"snapshot/{facts.current}"},
        "latest": keys & {f"snapshot/{facts.latest}"},
        "in use": keys & facts.in_use,
        "held": held(facts.points, hold),
        "future-dated": keys - {point.key for point in there},
    }


def held(points: Sequence[Point], hold: Hold | None) -> set[str]:
    if hold is None:
        return set()
    pins = [point.slot for point in points if point.key == f"snapshot/{hold.pinned}"]
    for pattern in ("%Y-%m-%d_%H%M", "%Y-%m-%d_%H%M%S"):
        try:
            pins.append(datetime.strptime(hold.pinned or "", pattern).replace(tzinfo=UTC))
        except ValueError:
            continue
    return {point.key for point in points if not pins or point.slot <= max(pins)}


def _age(point: Point) -> tuple[datetime, str]:
    return point.slot, point.name


def _newest_ones(points: Iterable[Point]) -> set[str]:
    """The newest, and the newest complete one."""
    there = list(points)
    return _newest(there) | _newest(point for point in there if point.quality is Quality.COMPLETE)


def _newest(points: Iterable[Point]) -> set[str]:
    newest = max(points, key=_age, default=None)
    return {newest.key} if newest else set()
