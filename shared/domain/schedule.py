"""Which slots are due. Slots are multiples of the interval since 1970, UTC: no daylight saving, no drift."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from shared.domain.events import Job
from shared.domain.messages import Tick
from shared.domain.names import HostName, StoreName

LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Cadence(msgspec.Struct, frozen=True):
    """How often a job runs for a host.

    With `after`, a slot waits until that job has settled its own newest slot (an archive follows its snapshot while
    what was read is still in the cache), but not longer than `patience`; before the first snapshot there is nothing
    that anything could be made of.
    """

    job: Job
    host: HostName
    store: StoreName
    interval_hours: int
    after: Job | None = None
    patience: timedelta = timedelta(0)


def newest_slot(interval_hours: int, now: datetime) -> datetime:
    """The newest slot at or before now."""
    seconds = interval_hours * 3600
    return datetime.fromtimestamp(int(now.timestamp()) // seconds * seconds, UTC)


def next_slot(interval_hours: int, now: datetime) -> datetime:
    """The first slot after now."""
    return newest_slot(interval_hours, now) + timedelta(hours=interval_hours)


def due_ticks(
    cadences: Iterable[Cadence],
    settled: Mapping[tuple[Job, HostName], datetime],
    now: datetime,
    since: datetime = LONG_AGO,
) -> list[Tick]:
    """A tick for each cadence whose newest slot is not settled yet; older missed slots are never made up for.

    `settled` is the newest slot that is done (or refused for good) for a job and host. `since` is when somebody
    began to look: patience with a slot that was missed before begins only then.
    """
    listed = list(cadences)
    intervals = {(cadence.job, cadence.host): cadence.interval_hours for cadence in listed}
    ticks = []
    for cadence in listed:
        slot = newest_slot(cadence.interval_hours, now)
        done = settled.get((cadence.job, cadence.host))
        if done is not None and done >= slot:
            continue
        patient = now - max(slot, since) < cadence.patience
        if not _waits(cadence, slot, intervals, settled, patient=patient):
            ticks.append(Tick(cadence.job, cadence.store, cadence.host, slot))
    return ticks


def _waits(
    cadence: Cadence,
    slot: datetime,
    intervals: Mapping[tuple[Job, HostName], int],
    settled: Mapping[tuple[Job, HostName], datetime],
    *,
    patient: bool,
) -> bool:
    snapshot = (Job.SNAPSHOT, cadence.host)
    if cadence.after is None or (cadence.after, cadence.host) not in intervals:
        return False
    if snapshot in intervals and snapshot not in settled:
        return True
    first = (cadence.after, cadence.host)
    done = settled.get(first)
    return patient and (done is None or done < newest_slot(intervals[first], slot))


def next_due(plans: Iterable[Cadence], now: datetime) -> datetime | None:
    """The next moment at which any plan has a new slot."""
    return min((next_slot(plan.interval_hours, now) for plan in plans), default=None)


def trigger_slot(asked_at: datetime) -> datetime:
    """The slot of a run that was asked for: the second of the wish."""
    return asked_at.astimezone(UTC).replace(microsecond=0)
