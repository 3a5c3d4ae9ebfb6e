"""The API as it is served: the real service, the real log and bus, real HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from services.api.service import serve
from services.embedded.sshd import free_port
from shared.config import Settings
from shared.domain.access import Role
from tests.support.access import add_user, token_of
from tests.support.builders import some_settings
from tests.support.servers import Database, NatsServer


def served_settings(database: Database, nats_server: NatsServer) -> Settings:
    """Settings of two hosts, for a log, a bus and a free port."""
    return some_settings(
        ["nas", "web"],
        nats_url=nats_server.url,
        postgres_dsn=database.worker_dsn,
        api_listen=("127.0.0.1", free_port()),
    )


@asynccontextmanager
async def serving(settings: Settings, role: Role | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """The service, from its first answer to the end of the block; with a role, asked by a user who has it."""
    headers = {}
    if role is not None:
        await add_user(settings, "alice", role)
        headers = await token_of(settings, "alice")
    stop = asyncio.Event()
    base = f"http://127.0.0.1:{settings.api_listen[1]}"
    async with asyncio.TaskGroup() as tasks, httpx.AsyncClient(base_url=base, timeout=20, headers=headers) as client:
        running = tasks.create_task(serve(settings, stop))
        while not running.done():
            try:
                await client.get("/static/style.css")
                break
            except httpx.TransportError:
                await asyncio.sleep(0.05)
        try:
            yield client
        finally:
            stop.set()
