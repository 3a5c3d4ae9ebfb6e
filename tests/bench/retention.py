"""A retention plan over hosts of ordinary and of absurd size.

One host holds what the default policy keeps; the large one has ten thousand hourly snapshots that no plan has ever
touched, so that nearly all of them go and each of them needs its reason and what covers it.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final

from shared.domain.events import Kind
from shared.domain.names import snapshot_name
from shared.domain.policy import Policy
from shared.domain.retention import Facts, Point, plan
from tests.bench.options import BenchmarkBroken, Options
from tests.bench.samples import Samples
from tests.bench.table import Found, below

NOW: Final = datetime(2026, 3, 6, 8, tzinfo=UTC)
POLICY: Final = Policy(time_zone="Europe/Berlin")
ORDINARY: Final = 950
MANY: Final = 10_000
PLAN_MS: Final = 100.0


async def measure(options: Options) -> Found:
    """Plan again and again."""
    large = options.size(MANY, quick=1_000)
    ordinary, many = Samples(), Samples()
    settled, grown = _settled(_hourly(ORDINARY * 6)), _hourly(large)
    for _ in range(options.rounds(15)):
        ordinary.add(_plan_ms(settled))
        many.add(_plan_ms(grown))
    rows = [
        below(f"{len(settled.points):,} points, nothing goes", ordinary, PLAN_MS, unit=" ms", digits=1),
        below(f"{large:,} points, nearly all go", many, PLAN_MS, unit=" ms", digits=1),
    ]
    notes = [
        "one process, one core; days and months counted in Berlin",
        "points are made beforehand: they come from the log",
    ]
    return Found("retention: one plan", rows, notes)


def _hourly(count: int) -> Facts:
    slots = [NOW - timedelta(hours=hours) for hours in range(count)]
    return Facts(points=tuple(Point(kind=Kind.SNAPSHOT, name=snapshot_name(slot), slot=slot) for slot in slots))


def _settled(facts: Facts) -> Facts:
    """What is left after a plan was carried out."""
    made = plan(facts, POLICY, NOW)
    return Facts(points=tuple(verdict.point for verdict in made.verdicts if verdict.keep))


def _plan_ms(facts: Facts) -> float:
    started = time.perf_counter()
    made = plan(facts, POLICY, NOW)
    took_ms = (time.perf_counter() - started) * 1000
    if len(made.verdicts) != len(facts.points):
        raise BenchmarkBroken(f"{len(facts.points)} points got {len(made.verdicts)} verdicts.")
    return took_ms
