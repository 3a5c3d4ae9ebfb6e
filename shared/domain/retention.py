"""Which restore points stay and which go, and why: one pure function (DESIGN section 7).

Tiers say what a policy keeps, guards what stays whatever a policy says, refusals when nothing may go at all. The
result is checked once more from the guards alone before anybody sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from shared.domain.broken_guards import broken_guards
from shared.domain.coverage import Coverage
from shared.domain.guards import protections
from shared.domain.policy import Policy
from shared.domain.refusals import refusals
from shared.domain.restore_points import Facts, Hold, Point, RetentionPlan, Verdict, is_future, place_in_time
from shared.domain.tiers import EXPIRED, FUTURE, Standing, Tiers

__all__ = ["Facts", "Hold", "Point", "RetentionPlan", "Verdict", "broken_guards", "plan"]


def plan(facts: Facts, policy: Policy, now: datetime, hold: Hold | None = None) -> RetentionPlan:
    """The verdict on every point."""
    points = sorted(facts.points, key=place_in_time)
    tiers = Tiers([point for point in points if not is_future(point.slot, now)], policy, now)
    protected = protections(points, facts, now, hold)
    verdicts = [_verdict(point, tiers, protected.get(point.key, []), now) for point in points]
    verdicts = _with_cover(verdicts, tiers, now)
    refused = refusals(facts, [verdict for verdict in verdicts if not verdict.keep], now)
    made = RetentionPlan(policy=policy.version(), verdicts=tuple(verdicts), refused=refused)
    if broken := broken_guards(made, facts, policy, now, hold):
        return msgspec.structs.replace(made, refused=(*refused, *broken))
    return made


def _verdict(point: Point, tiers: Tiers, protected: Sequence[str], now: datetime) -> Verdict:
    if is_future(point.slot, now):
        return Verdict(point=point, keep=True, tier=FUTURE, reasons=("future-dated", *protected))
    standing = tiers.standing(point)
    if not protected:
        return Verdict(point=point, keep=standing.tier != EXPIRED, tier=standing.tier, reasons=standing.reasons)
    return Verdict(point=point, keep=True, tier=standing.tier, reasons=(*_kept_by(standing), *protected))


def _kept_by(standing: Standing) -> tuple[str, ...]:
    return () if standing.tier == EXPIRED else standing.reasons


def _with_cover(verdicts: Sequence[Verdict], tiers: Tiers, now: datetime) -> list[Verdict]:
    """The same verdicts; each removal says what still covers its day."""
    if all(verdict.keep for verdict in verdicts):
        return list(verdicts)
    kept = [verdict.point for verdict in verdicts if verdict.keep and not is_future(verdict.point.slot, now)]
    coverage = Coverage(kept, tiers.day)
    return [
        verdict if verdict.keep else msgspec.structs.replace(verdict, covered_by=coverage.of(verdict.point))
        for verdict in verdicts
    ]
