"""Wires the archiver: its workplace and the worker loop."""

from __future__ import annotations

import asyncio
from pathlib import Path

from services.archiver.handler import Archiver
from shared.config import Settings
from shared.domain.events import Job
from shared.runtime.confined import in_host_folders
from shared.runtime.workplace import workplace


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Make archives and golden copies until told to stop. Raises StoreRefused before anything is written."""
    async with workplace(settings, "archiver", stop) as place:
        archiver = Archiver(settings, place.store, place.log, place.cancels, place.clock, place.worker)
        await place.work(Job.ARCHIVE, archiver.handle, stop)


def may_write(settings: Settings) -> list[Path]:
    """Its archives and golden copies; where it locks and what it tells. Never a snapshot, never the trash."""
    return in_host_folders(settings, "archives", "monthly", ".locks", ".spool")
