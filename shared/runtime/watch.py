"""Ends a service whose connection is gone for good: then only a new process helps."""

from __future__ import annotations

import asyncio

from shared.adapters.jetstream import Bus
from shared.domain.errors import BackupManagerError


async def fail_when_closed(bus: Bus, stop: asyncio.Event) -> None:
    """Return when the service stops. Raises BackupManagerError when the bus was closed before."""
    waits = [asyncio.create_task(bus.closed.wait()), asyncio.create_task(stop.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    if bus.closed.is_set() and not stop.is_set():
        raise BackupManagerError("The connection to the bus was closed for good.", "The service is started again.")
