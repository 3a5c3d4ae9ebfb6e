"""The guards once more, asked of a finished plan.

It shares no rule with what makes plans, so that one mistake is not enough. It asks
backwards: not "what is protected", but for each removal "what must still be there if this goes".
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from shared.domain.errors import NameRefused
from shared.domain.event import Kind, Quality
from shared.domain.names import parse_snapshot_name
from shared.domain.policy import Policy
from shared.domain.restore_points import Facts, Hold, Point, RetentionPlan

_LEAST_COMPLETE: Final = 3
_DAY: Final = timedelta(days=1)


def broken_guards(
    plan: RetentionPlan, facts: Facts, policy: Policy, now: datetime, hold: Hold | None = None
) -> tuple[str, ...]:
    """Sentences about every guard that a plan breaks; none when it breaks none."""
    removed = [verdict.point for verdict in plan.verdicts if not verdict.keep]
    found = [*_not_this_plan(plan, facts, policy), *_removed_too_much(plan, removed, now)]
    held_until = _held_until(facts, hold, now)
    for point in removed:
        found += [f"This plan would remove {point.key}, {why}." for why in _why_not(point, facts, now, held_until)]
    if removed and not plan.refused:
        found += _not_refused(facts, removed, now)
    return tuple(f"{sentence} Nothing is removed; please report it as a bug." for sentence in found)


def _not_this_plan(plan: RetentionPlan, facts: Facts, policy: Policy) -> Iterator[str]:
    if plan.policy != policy.version():
        yield f"This plan was made by policy {plan.policy}, and {policy.version()} is in force."
    there_are = sorted(facts.points, key=lambda point: (point.slot, point.kind, point.name))
    if [verdict.point for verdict in plan.verdicts] != there_are:
        yield f"This plan speaks of {len(plan.verdicts)} points; they are not the {len(there_are)} there are by age."
    kept = {verdict.point.key for verdict in plan.verdicts if verdict.keep}
    for verdict in plan.verdicts:
        if not verdict.keep and not kept.issuperset(verdict.covered_by):
            yield f"This plan says that {verdict.point.key} is covered by something that does not stay."
        if not verdict.reasons:
            yield f"This plan gives no reason for {verdict.point.key}."


def _removed_too_much(plan: RetentionPlan, removed: Sequence[Point], now: datetime) -> Iterator[str]:
    """Whether enough that is as new stays for each removed point: complete, verified, an archive, a golden copy."""
    stays = [verdict.point for verdict in plan.verdicts if verdict.keep and not _ahead(verdict.point, now)]
    snapshots, gone = _of(Kind.SNAPSHOT, stays), _of(Kind.SNAPSHOT, removed)
    yield from _fewer(_LEAST_COMPLETE, "complete snapshots", _complete(gone), _complete(snapshots))
    yield from _fewer(1, "verified snapshots", _verified(gone), _verified(snapshots))
    yield from _fewer(1, "verified complete snapshots", _verified(_complete(gone)), _verified(_complete(snapshots)))
    for kind in (Kind.ARCHIVE, Kind.GOLDEN):
        yield from _fewer(1, f"{kind} points", _of(kind, removed), _of(kind, stays))
        yield from _fewer(1, f"complete {kind} points", _complete(_of(kind, removed)), _complete(_of(kind, stays)))


def _fewer(least: int, what: str, gone: Iterable[Point], stays: Iterable[Point]) -> Iterator[str]:
    """Only the newest that goes has to be looked at: what is as new as that one is as new as all of them."""
    newest = max(gone, key=lambda point: point.slot, default=None)
    if newest is None:
        return
    slots = sorted(point.slot for point in stays)
    left = len(slots) - bisect_left(slots, newest.slot)
    if left < least:
        yield f"This plan would remove {newest.key} and leave {left} {what} as new as it, not {least}."


def _why_not(point: Point, facts: Facts, now: datetime, held_until: datetime | None) -> Iterator[str]:
    if _ahead(point, now):
        yield "which is dated in the future"
    if point.key in facts.in_use:
        yield "which is in use"
    if point.key in facts.undeleted:
        yield "which somebody brought back"
    if point.kind is Kind.SNAPSHOT and point.name in (facts.current, facts.latest):
        yield "which current or latest points to"
    if held_until is not None and point.slot <= held_until:
        yield "which is held"


def _held_until(facts: Facts, hold: Hold | None, now: datetime) -> datetime | None:
    """The newest slot that may not go; None when nothing is held."""
    if hold is None:
        return None
    pins = [point.slot for point in facts.points if (point.kind, point.name) == (Kind.SNAPSHOT, hold.pinned)]
    with suppress(NameRefused):
        pins.append(parse_snapshot_name(hold.pinned or ""))
    return max(pins) if pins else max((point.slot for point in facts.points), default=now)


def _not_refused(facts: Facts, removed: Sequence[Point], now: datetime) -> Iterator[str]:
    """What should have refused the plan whole."""
    if facts.clock_doubt or facts.not_on_drive or facts.not_in_log:
        yield "This plan would remove something although the clock or the inventory is in doubt."
    agreed = facts.confirmed_at is not None and facts.confirmed_at <= now <= facts.confirmed_at + _DAY
    if agreed and {point.key for point in removed} <= facts.confirmed:
        return
    if facts.policy_changed_at is not None and now <= facts.policy_changed_at + _DAY:
        yield "This plan would remove something although the policy changed less than a day ago."
    if len(removed) > max(2, sum(not _ahead(point, now) for point in facts.points) / 10):
        yield f"This plan would remove {len(removed)} points at once, and nobody confirmed it."


def _ahead(point: Point, now: datetime) -> bool:
    return point.slot > now and point.slot - now > timedelta(minutes=5)


def _complete(points: Iterable[Point]) -> list[Point]:
    return [point for point in points if point.quality is Quality.COMPLETE]


def _verified(points: Iterable[Point]) -> list[Point]:
    return [point for point in points if point.verified]


def _of(kind: Kind, points: Iterable[Point]) -> list[Point]:
    return [point for point in points if point.kind is kind]
