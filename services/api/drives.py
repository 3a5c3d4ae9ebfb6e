"""The drives as the pages show them: how full, since when, and when there will be no room. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from shared.domain.forecast import forecast
from shared.domain.host_state import moment_of
from shared.domain.projection import State
from shared.domain.store_state import StoreState
from shared.domain.wording import duration, size

NEARLY_FULL: Final = 0.9
LITTLE_TIME_DAYS: Final = 30
SPARK_DAYS: Final = 60
SPARK_WIDTH: Final = 240
SPARK_HEIGHT: Final = 40


@dataclass(frozen=True, slots=True)
class Drive:
    """A drive. `warning` is empty while all is well; `spark` are the points of a line, in SVG's words."""

    name: str
    state: StoreState
    percent: int
    outlook: str
    warning: str
    spark: str


def drives(state: State, now: datetime) -> list[Drive]:
    """All drives that were ever measured, the fullest first."""
    found = [_drive(name, store, now) for name, store in state.stores.items() if store.measured_us is not None]
    return sorted(found, key=lambda drive: (-drive.percent, drive.name))


def _drive(name: str, store: StoreState, now: datetime) -> Drive:
    share = store.used_share
    expected = forecast(store.used_of_day, store.free_bytes)
    if expected is None:
        outlook, days = "Too new for a forecast.", None
    elif expected.full_in_days is None:
        outlook, days = "It does not fill up at the moment.", None
    else:
        days = expected.full_in_days
        outlook = f"Full {_on(now.date(), days)} if it goes on like this ({size(expected.bytes_per_day)} a day)."
    return Drive(name, store, round(share * 100), outlook, _warning(share, days, store, now), spark(store))


def _on(today: date, days: int) -> str:
    return f"on {today + timedelta(days=days)}" if days else "today"


def _warning(share: float, days: int | None, store: StoreState, now: datetime) -> str:
    if store.measured_us is not None and now - moment_of(store.measured_us) > timedelta(hours=3):
        silence = duration((now - moment_of(store.measured_us)).total_seconds())
        return f"Nobody has measured it for {silence}: is it mounted, and does the snapshotter run?"
    if share >= NEARLY_FULL:
        return "Nearly full. A full drive takes no more snapshots; nothing is deleted to make room."
    if days is not None and days < LITTLE_TIME_DAYS:
        return f"It will be full in {days} days."
    return ""


def spark(store: StoreState) -> str:
    """What was in use on each of the last days as the points of a line, from nothing (bottom) to all of it (top)."""
    newest = max(store.used_of_day, default=0)
    days = [day for day in sorted(store.used_of_day) if day > newest - SPARK_DAYS]
    if len(days) < 2 or not store.total_bytes:
        return ""
    return line([(day - newest + SPARK_DAYS, store.used_of_day[day] / store.total_bytes) for day in days])


def line(points: Sequence[tuple[int, float]]) -> str:
    """Points of (day from 0 to SPARK_DAYS, share from 0 to 1) in SVG's words."""
    return " ".join(
        f"{day * SPARK_WIDTH / SPARK_DAYS:.1f},{SPARK_HEIGHT * (1 - min(1.0, max(0.0, share))):.1f}"
        for day, share in points
    )
