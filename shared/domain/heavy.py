"""What the heavy pipeline has to do for a host: whether to pack an archive, whether to make a golden copy."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta, tzinfo

from shared.domain.names import golden_name


def why_no_archive(
    snapshot: str,
    slot: datetime,
    archived: Iterable[tuple[str, datetime]],
    interval_hours: int,
    *,
    asked: bool,
) -> str:
    """Why nothing is to be packed at this slot; empty when an archive is due.

    `archived` are the snapshots that have an archive, with the slots these were made for. Somebody who asked gets
    one before the interval is over, but never a second one of the same snapshot.
    """
    known = dict(archived)
    if snapshot in known:
        return f"snapshot {snapshot} has an archive already"
    # One for a slot to come was made by a clock that was ahead.
    newest = max((made for made in known.values() if made <= slot), default=None)
    if asked or newest is None or slot - newest >= timedelta(hours=interval_hours):
        return ""
    return f"the newest archive is younger than {interval_hours} h: it is of {newest:%Y-%m-%d %H:%M} UTC"


def due_golden(
    snapshot_slot: datetime, golden: Collection[str], zone: tzinfo, day_of_month: int, *, wanted: bool
) -> str | None:
    """The name of the golden copy to be made of a snapshot, or None.

    It is the snapshot's own month, so that a golden copy never claims to be of a month in which nothing was backed
    up. A host without any gets one at once; a missed day is caught up until the month is over.
    """
    name = golden_name(snapshot_slot, zone)
    if not wanted or name in golden:
        return None
    if golden and snapshot_slot.astimezone(zone).day < day_of_month:
        return None
    return name
