"""What is noted of a drive while it is mounted: how full it is, and what the head of the log was."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Final

from shared.adapters.anchors import Anchor, read_anchors, write_anchor
from shared.adapters.clock import SystemClock
from shared.adapters.postgres import EventLog
from shared.adapters.store import Store
from shared.adapters.threads import in_thread
from shared.domain.errors import BackupManagerError
from shared.domain.events import NewEvent, StoreMeasured
from shared.domain.ids import derived_id
from shared.domain.names import store_stream

ANCHOR_AGE: Final = timedelta(hours=24)
LOOK_SECONDS: Final = 600.0

log = logging.getLogger(__name__)


async def keep_up(store: Store, events: EventLog, clock: SystemClock) -> None:
    """Note it again and again, for ever."""
    while True:
        try:
            await measure(store, events, clock)
            await _anchor(store, events, clock)
        except (BackupManagerError, OSError) as error:
            log.warning("The drive could not be noted in the log, or the log on the drive, now: %s", error)
        await clock.sleep(LOOK_SECONDS)


async def measure(store: Store, events: EventLog, clock: SystemClock) -> None:
    """Record how full the drive is, once an hour, whichever worker comes first. Raises LogUnavailable."""
    await in_thread(store.check)
    room = await in_thread(store.room)
    fact = StoreMeasured(
        store=store.identity.name,
        total_bytes=room.total_bytes,
        free_bytes=room.free_bytes,
        total_inodes=room.total_inodes,
        free_inodes=room.free_inodes,
    )
    hour = f"{clock.now():%Y-%m-%d %H}"
    identity = derived_id("measured", str(store.identity.uuid), hour)
    await events.append(store_stream(store.identity.name), None, [NewEvent(identity, fact)])


async def _anchor(store: Store, events: EventLog, clock: SystemClock) -> None:
    """Once a day, whichever worker comes first, note on the drive what the head of the log is."""
    newest = max((anchor.at for anchor in await in_thread(read_anchors, store)), default=None)
    if newest is None or clock.now() - newest >= ANCHOR_AGE:
        head = await events.anchor()
        if head is not None:
            await in_thread(write_anchor, store, Anchor(head[0], head[1].hex(), clock.now()))
