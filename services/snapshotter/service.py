"""Wires the snapshotter: its workplaces, its rsync, the recovery at the start and the upkeep of each drive."""

from __future__ import annotations

import asyncio
import logging

from services.snapshotter.handler import Snapshotter
from services.snapshotter.transfer import find_ability
from services.snapshotter.upkeep import keep_up
from shared.adapters import filesystem, journal
from shared.adapters.store import Store
from shared.config import Settings
from shared.domain.errors import BackupManagerError, HostBusy
from shared.domain.events import Job
from shared.runtime.stores import serve_stores
from shared.runtime.workplace import Workplace

log = logging.getLogger(__name__)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Take snapshots until told to stop. Raises StoreRefused before anything is written."""

    async def work(place: Workplace, stop: asyncio.Event) -> None:
        ability = await find_ability(attributes=filesystem.supports_user_xattrs(place.store.descriptor))
        if not ability.confined:
            log.warning("The receiver is not confined: bubblewrap does not work here. `doctor` says why.")
        snapshotter = Snapshotter(settings, place.store, place.log, place.cancels, ability, place.clock, place.worker)
        async with asyncio.TaskGroup() as tasks:
            recovery = tasks.create_task(_recover_all(settings, snapshotter, place.store))
            upkeep = tasks.create_task(keep_up(place.store, place.log.events, place.clock))
            await place.work(Job.SNAPSHOT, snapshotter.handle, stop)
            recovery.cancel()
            upkeep.cancel()

    await serve_stores(settings, "snapshotter", stop, work)


async def _recover_all(settings: Settings, snapshotter: Snapshotter, store: Store) -> None:
    for host in store.hosts():
        configured = settings.host(host)
        if configured is not None and configured.store != store.identity.name:
            continue  # what it has here was left behind when it moved, or waits for the other store
        with journal.about(host=host):
            try:
                await snapshotter.recover(host)
            except HostBusy:
                continue  # another worker is at it, and has recovered it before it began
            except (BackupManagerError, OSError) as error:
                log.warning("The host could not be recovered now: %s", error)
