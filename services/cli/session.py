"""What a command needs to look at a running system: its settings, its log, its bus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, TypeVar

import uvloop

from services.embedded.system import Connections, read_connections
from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import Bus, BusUser
from shared.adapters.postgres import EventLog
from shared.config import Settings
from shared.domain.errors import BackupManagerError
from shared.domain.projection import State, evolve
from shared.domain.writers import Service
from shared.runtime.start import settings_here

_Result = TypeVar("_Result")

ANSWER_TIMEOUT_SECONDS = 15.0


def run(command: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a command's coroutine."""
    return uvloop.run(command)


def now() -> datetime:
    """The present instant."""
    return SystemClock().now()


def connections(settings: Settings) -> Connections:
    """How to reach the running system: by the settings, else by what `up` left. Raises BackupManagerError."""
    if settings.postgres_dsn and settings.nats_url:
        return Connections(settings.postgres_dsn, settings.nats_url, settings.nats_nkey_file)
    found = read_connections(settings.data_dir)
    if found is None:
        raise BackupManagerError(
            f"No system is running on {settings.data_dir}, and NATS_URL and POSTGRES_DSN are not set.",
            "Start it with `backup-manager up`.",
        )
    return found


@asynccontextmanager
async def event_log(settings: Settings) -> AsyncIterator[EventLog]:
    """The log of the running system."""
    log = EventLog(connections(settings).postgres_dsn)
    try:
        yield log
    finally:
        await log.close()


@asynccontextmanager
async def bus(settings: Settings) -> AsyncIterator[Bus]:
    """The bus of the running system."""
    found = connections(settings)
    user = BusUser(Service.OPERATOR, found.nats_nkey_file)
    connected = await Bus.connect(found.nats_url, user, timeout_seconds=ANSWER_TIMEOUT_SECONDS)
    try:
        yield connected
    finally:
        await connected.close()


async def state_of(log: EventLog, at: datetime | None = None) -> State:
    """The state now, or as of a moment."""
    upto = None if at is None else await log.position_at(at)
    state = State()
    async for page in log.pages(0, upto):
        for recorded in page:
            evolve(state, recorded)
        await asyncio.sleep(0)
    return state


__all__ = ["bus", "connections", "event_log", "now", "run", "settings_here", "state_of"]
