"""Wires the retention: its workplaces and the worker loops."""

from __future__ import annotations

import asyncio

from services.retention.handler import Retention
from shared.adapters.confinement import MayWrite
from shared.config import Settings
from shared.domain.events import Job
from shared.runtime.confined import in_host_folders
from shared.runtime.stores import serve_stores
from shared.runtime.workplace import Workplace


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Thin out until told to stop. Raises StoreRefused before anything is written."""

    async def work(place: Workplace, stop: asyncio.Event) -> None:
        retention = Retention(settings, place.store, place.log, place.cancels, place.clock, place.worker)
        await place.work(Job.RETENTION, retention.handle, stop)

    await serve_stores(settings, "retention", stop, work, held_back=True)


def may_write(settings: Settings) -> MayWrite:
    """The folders of the hosts on the drive: it moves and removes there, and nowhere else."""
    return MayWrite(in_host_folders(settings))
