"""Wires the archiver: its workplaces and the worker loops."""

from __future__ import annotations

import asyncio

from services.archiver.handler import Archiver
from shared.adapters.confinement import MayWrite
from shared.config import Settings
from shared.domain.events import Job
from shared.runtime.confined import in_host_folders
from shared.runtime.stores import serve_stores
from shared.runtime.workplace import Workplace


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Make archives and golden copies until told to stop. Raises StoreRefused before anything is written."""

    async def work(place: Workplace, stop: asyncio.Event) -> None:
        archiver = Archiver(settings, place.store, place.log, place.cancels, place.clock, place.worker)
        await place.work(Job.ARCHIVE, archiver.handle, stop)

    await serve_stores(settings, "archiver", stop, work, held_back=True)


def may_write(settings: Settings) -> MayWrite:
    """Its archives; the names of golden copies; where it locks and what it tells. Never a snapshot, never the trash.

    A golden copy shares its files with snapshots, so not even there may it write into one.
    """
    return MayWrite(
        all_of=in_host_folders(settings, "archives", ".locks", ".spool"),
        names_of=in_host_folders(settings, "monthly"),
        links_from=in_host_folders(settings, "hourly"),
    )
