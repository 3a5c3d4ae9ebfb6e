"""Wires the restorer: its workplace and the worker loop."""

from __future__ import annotations

import asyncio

from services.restorer.handler import Restorer
from shared.config import Settings
from shared.domain.events import Job
from shared.runtime.workplace import workplace


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Restore what is asked for until told to stop. Raises StoreRefused before anything is written."""
    async with workplace(settings, "restorer", stop) as place:
        restorer = Restorer(settings, place.store, place.log, place.cancels, place.clock, place.worker)
        await place.work(Job.RESTORE, restorer.handle, stop)
