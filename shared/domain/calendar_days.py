"""Days and months as people in a time zone count them."""

from __future__ import annotations

from calendar import monthrange
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

_END_OF_TIME: Final = datetime.max.replace(tzinfo=UTC)
_START_OF_TIME: Final = datetime.min.replace(tzinfo=UTC)


def local_day(moment: datetime, zone: ZoneInfo) -> str:
    """The day of this moment there, like 2026-03-06; its first seven characters are the month."""
    return _local(moment, zone).date().isoformat()


def months_later(moment: datetime, months: int, zone: ZoneInfo) -> datetime:
    """The same time of day so many calendar months later, on the last day of the month where that one is shorter.

    Where the clocks show that time twice or never, it is the later instant: what ends there is kept longer.
    """
    local = _local(moment, zone)
    year, month = divmod(local.year * 12 + local.month - 1 + months, 12)
    if not MINYEAR <= year <= MAXYEAR:
        return _END_OF_TIME if months > 0 else _START_OF_TIME
    day = min(local.day, monthrange(year, month + 1)[1])
    wall = local.replace(year=year, month=month + 1, day=day)
    try:
        return max(wall.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    except OverflowError:
        return _END_OF_TIME if months > 0 else _START_OF_TIME


def _local(moment: datetime, zone: ZoneInfo) -> datetime:
    try:
        return moment.astimezone(zone)
    except OverflowError:  # within hours of the year 1 or 10000 a zone can lead out of what a datetime can say
        return moment.astimezone(UTC)
