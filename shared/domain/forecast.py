"""When a drive will be full, if it goes on as in the last weeks. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from statistics import median
from typing import Final

import msgspec

WINDOW_DAYS: Final = 30
"""Older growth says little about what comes: retention has caught up with it meanwhile."""
FEWEST_DAYS: Final = 3
FARTHEST_DAYS: Final = 3650


class Forecast(msgspec.Struct, frozen=True):
    """How a drive fills. `full_in_days` is None when it does not fill, or not within ten years."""

    bytes_per_day: int
    full_in_days: int | None


def forecast(used_of_day: Mapping[int, int], free_bytes: int) -> Forecast | None:
    """The forecast by what was used at the end of each day; None while too little is known.

    The slope is the median of the slopes between all pairs of days (Theil 1950, Sen 1968): one day on which a host
    was added, or much was removed, does not change it.
    """
    newest = max(used_of_day, default=0)
    days = sorted(day for day in used_of_day if day > newest - WINDOW_DAYS)
    if len(days) < FEWEST_DAYS:
        return None
    slope = median((used_of_day[b] - used_of_day[a]) / (b - a) for a, b in combinations(days, 2))
    if slope <= 0:
        return Forecast(round(slope), None)
    left = int(free_bytes / slope)
    return Forecast(round(slope), left if left <= FARTHEST_DAYS else None)
