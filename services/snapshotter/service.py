"""Wires the snapshotter: its workplace, its rsync, the recovery at the start and the daily anchor."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Final

from services.snapshotter.handler import Snapshotter
from services.snapshotter.transfer import find_ability
from shared.adapters import filesystem, journal
from shared.adapters.anchors import Anchor, read_anchors, write_anchor
from shared.adapters.clock import SystemClock
from shared.adapters.postgres import EventLog
from shared.adapters.store import Store
from shared.adapters.threads import in_thread
from shared.config import Settings
from shared.domain.errors import BackupManagerError, HostBusy
from shared.domain.events import Job
from shared.runtime.workplace import workplace

ANCHOR_AGE: Final = timedelta(hours=24)
ANCHOR_CHECK_SECONDS: Final = 600.0

log = logging.getLogger(__name__)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Take snapshots until told to stop. Raises StoreRefused before anything is written."""
    async with workplace(settings, "snapshotter", stop) as place:
        ability = await find_ability(attributes=filesystem.supports_user_xattrs(place.store.descriptor))
        if not ability.confined:
            log.warning("The receiver is not confined: bubblewrap does not work here. `doctor` says why.")
        snapshotter = Snapshotter(settings, place.store, place.log, place.cancels, ability, place.clock, place.worker)
        async with asyncio.TaskGroup() as tasks:
            recovery = tasks.create_task(_recover_all(snapshotter, place.store))
            anchoring = tasks.create_task(_anchor_daily(place.store, place.log.events, place.clock))
            await place.work(Job.SNAPSHOT, snapshotter.handle, stop)
            recovery.cancel()
            anchoring.cancel()


async def _anchor_daily(store: Store, events: EventLog, clock: SystemClock) -> None:
    """Once a day, whichever worker comes first, note on the drive what the head of the log is."""
    while True:
        try:
            newest = max((anchor.at for anchor in await in_thread(read_anchors, store)), default=None)
            if newest is None or clock.now() - newest >= ANCHOR_AGE:
                head = await events.anchor()
                if head is not None:
                    await in_thread(write_anchor, store, Anchor(head[0], head[1].hex(), clock.now()))
        except (BackupManagerError, OSError) as error:
            log.warning("The log could not be anchored on the drive now: %s", error)
        await clock.sleep(ANCHOR_CHECK_SECONDS)


async def _recover_all(snapshotter: Snapshotter, store: Store) -> None:
    for host in store.hosts():
        with journal.about(host=host):
            try:
                await snapshotter.recover(host)
            except HostBusy:
                continue  # another worker is at it, and has recovered it before it began
            except BackupManagerError as error:
                log.warning("The host could not be recovered now: %s", error)
