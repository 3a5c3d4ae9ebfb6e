"""Wires the restorer: its workplaces and the worker loops."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from services.restorer.handler import Restorer
from shared.adapters.confinement import MayWrite
from shared.config import Settings
from shared.domain.events import Job
from shared.runtime.confined import in_host_folders
from shared.runtime.ssh import run_folder
from shared.runtime.stores import serve_stores
from shared.runtime.workplace import Workplace

log = logging.getLogger(__name__)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Restore what is asked for until told to stop. Raises StoreRefused before anything is written."""

    async def work(place: Workplace, stop: asyncio.Event) -> None:
        restorer = Restorer(settings, place.store, place.log, place.cancels, place.clock, place.worker)
        await place.work(Job.RESTORE, restorer.handle, stop)

    await serve_stores(settings, "restorer", stop, work, held_back=True)


def may_write(settings: Settings) -> MayWrite:
    """Where restores may go, and the sockets of ssh; of the drive only where it locks and what it tells."""
    found = [*in_host_folders(settings, ".locks", ".spool"), run_folder(settings)]
    for folder in map(Path, settings.restored_below()):
        if not settings.restore_folders:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.is_dir():
            found.append(folder)
        else:
            log.warning("Nothing can be restored to %s until it is there when the restorer starts.", folder)
    return MayWrite(found)
