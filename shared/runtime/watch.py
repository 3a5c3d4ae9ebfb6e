"""Whether a service goes on: its connection may be gone for good, and its tasks may be asked to end."""

from __future__ import annotations

import asyncio

from shared.adapters.jetstream import Bus
from shared.domain.errors import BackupManagerError


def asked_to_end() -> bool:
    """Whether the current task was cancelled. Every endless loop asks.

    `asyncio.wait_for` of Python 3.11 swallows a cancellation that comes together with its result, and nats-py waits
    that way: without asking, such a task would go on for ever.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def fail_when_closed(bus: Bus, stop: asyncio.Event) -> None:
    """Return when the service stops. Raises BusForbids and BackupManagerError when the bus was closed before."""
    waits = [asyncio.create_task(bus.closed.wait()), asyncio.create_task(stop.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    if bus.closed.is_set() and not stop.is_set():
        if bus.why is not None:
            raise bus.why
        raise BackupManagerError("The connection to the bus was closed for good.", "The service is started again.")
