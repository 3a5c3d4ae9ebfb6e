"""The strip of the last thirty days: how the runs of each day went, and what of it is still kept. Pure.

These are two different things: a day may have gone well and be thinned out since, and a day on which everything
failed may still have the snapshot of its first hour.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from shared.domain.host_state import HostState
from shared.domain.tally import WENT_WELL, WENT_WRONG

STRIP_DAYS: Final = 30


@dataclass(frozen=True, slots=True)
class Day:
    """A day: hours in which a snapshot was taken, hours in which one failed, and the snapshots that are kept of it."""

    date: date
    well: int
    wrong: int
    kept: int

    @property
    def run(self) -> str:
        """In one word how the runs of the day went."""
        if self.wrong:
            return "mixed" if self.well else "wrong"
        return "well" if self.well else "none"

    def __str__(self) -> str:
        went = {
            "well": f"went well in {self.well} hours",
            "wrong": f"failed in {self.wrong} hours",
            "mixed": f"failed in {self.wrong} hours and went well in {self.well}",
            "none": "no run",
        }
        return f"{self.date}: {went[self.run]}; {self.kept} kept"


def strip(host: HostState, now: datetime, zone: ZoneInfo) -> list[Day]:
    """The last days of a host, oldest first, by the calendar of a time zone."""
    kept = Counter(snapshot.slot.astimezone(zone).date() for snapshot in host.snapshots.values())
    well, wrong = Counter[date](), Counter[date]()
    for hour, marks in host.hours.items():
        day = datetime.fromtimestamp(hour * 3600, UTC).astimezone(zone).date()
        well[day] += marks & WENT_WELL != 0
        wrong[day] += marks & WENT_WRONG != 0
    today = now.astimezone(zone).date()
    days = [today - timedelta(days=ago) for ago in range(STRIP_DAYS - 1, -1, -1)]
    return [Day(day, well[day], wrong[day], kept[day]) for day in days]


def in_a_sentence(days: list[Day]) -> str:
    """The strip for who cannot see it."""
    ran = sum(day.run == "well" for day in days)
    failed = sum(day.wrong > 0 for day in days)
    kept = sum(day.kept > 0 for day in days)
    return f"Last {len(days)} days: all runs went well on {ran}, some failed on {failed}; snapshots are kept of {kept}."
