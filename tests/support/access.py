"""Users for tests of the API, and a browser of each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from argon2 import PasswordHasher

from services.api.service import serve
from shared.adapters.access import AccessStore
from shared.adapters.clock import SystemClock
from shared.adapters.passwords import Passwords
from shared.adapters.postgres import EventLog
from shared.config import Settings
from shared.domain.access import Role
from shared.runtime.accounts import Accounts, Doer

PASSWORD = "three brown horses"
CHEAP = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
"""A hash says itself what it cost, so that checking it is as cheap."""


@asynccontextmanager
async def accounts_of(settings: Settings) -> AsyncIterator[Accounts]:
    """The users of an installation, as the command line has them."""
    store, log = AccessStore(settings.postgres_dsn), EventLog(settings.postgres_dsn)
    try:
        yield Accounts(store, log, Passwords(CHEAP), SystemClock())
    finally:
        await store.close()
        await log.close()


async def add_user(settings: Settings, name: str, role: Role, *hosts: str) -> None:
    """Add a user whose password is PASSWORD; an admin called root comes before the first other one."""
    async with accounts_of(settings) as accounts:
        if role is not Role.ADMIN and not await accounts.store.has_users():
            await accounts.add("root", Role.ADMIN, None, PASSWORD, Doer("test"))
        await accounts.add(name, role, hosts or None, PASSWORD, Doer("test"))


async def token_of(settings: Settings, name: str) -> dict[str, str]:
    """The headers with which a program asks in the name of a user."""
    async with accounts_of(settings) as accounts:
        return {"authorization": f"Bearer {await accounts.make_token(name, 'test', Doer('test'))}"}


def base_of(settings: Settings, address: str = "127.0.0.1") -> str:
    """Where the API is."""
    return f"http://{address}:{settings.api_listen[1]}"


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[None]:
    """The service, from its first answer to the end of the block."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks, httpx.AsyncClient(base_url=base_of(settings)) as client:
        serving = tasks.create_task(serve(settings, stop))
        while not serving.done():
            try:
                await client.get("/healthz")
                break
            except httpx.TransportError:
                await asyncio.sleep(0.05)
        try:
            yield
        finally:
            stop.set()


@asynccontextmanager
async def browser(settings: Settings, name: str = "", password: str = PASSWORD) -> AsyncIterator[httpx.AsyncClient]:
    """What says where its requests come from, as browsers do; logged in, if a name is given."""
    async with httpx.AsyncClient(
        base_url=base_of(settings), timeout=20, headers={"sec-fetch-site": "same-origin"}
    ) as it:
        if name:
            answer = await it.post("/login", data={"name": name, "password": password})
            assert answer.status_code == 303, answer.text
        yield it
