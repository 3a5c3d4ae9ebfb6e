"""The real servers that tests talk to: one Postgres for the session, a database or a nats-server for each test."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeVar

import asyncpg

from services.embedded.cluster import SUPERUSER
from services.embedded.directory import ServerRefused
from services.embedded.nats import EmbeddedNats
from services.embedded.postgres import EmbeddedPostgres
from services.embedded.process_tree import parents, send, until_readable
from shared.adapters.migrate import migrate

BOUND_SECONDS: Final = 60.0
"""How long a test waits for anything before it fails."""

TEMPLATE: Final = "template_backup"
WORKER: Final = "backup_worker"
API: Final = "backup_api"
ANON: Final = "backup_anon"
PASSWORDS: Final = {WORKER: "worker p@ss", API: "api p@ss", ANON: "anon p@ss"}

_NUMBERS: Final = count(1)
_Result = TypeVar("_Result")


class LoopThread:
    """An event loop in a thread of its own, for servers that outlive the loop of any one test.

    The kernel ends our servers when the *thread* that started them dies: it must live as long as they do.
    """

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="servers", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """Run a coroutine there, from a synchronous fixture."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(2 * BOUND_SECONDS)

    async def call(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """Run a coroutine there, from a test."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    def close(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(BOUND_SECONDS)
        self._runner.close()


@dataclass(frozen=True, slots=True)
class Database:
    """A database of the session's Postgres. The connection strings stay valid over restarts of the server."""

    name: str
    admin_dsn: str
    worker_dsn: str
    api_dsn: str
    anon_dsn: str


class SharedPostgres:
    """One embedded Postgres with a migrated template, for all tests; any test may kill and start it."""

    def __init__(self, server: EmbeddedPostgres, loop: LoopThread) -> None:
        self._server = server
        self._loop = loop
        self._addresses: dict[str, str] = {}

    def remember_addresses(self) -> None:
        """Keep how to connect, which the server only says while it runs."""
        roles = {
            SUPERUSER: self._server.admin_dsn,
            **{role: self._server.dsn(role, PASSWORDS[role]) for role in PASSWORDS},
        }
        self._addresses = roles

    def dsn(self, role: str, database: str) -> str:
        """How to connect as a role."""
        before, _, place = self._addresses[role].partition("@/")
        return f"{before}@/{database}?{place.partition('?')[2]}"

    def database(self, name: str) -> Database:
        """The addresses of a database."""
        return Database(name, *(self.dsn(role, name) for role in (SUPERUSER, WORKER, API, ANON)))

    @asynccontextmanager
    async def fresh_database(self, *, template: str = TEMPLATE) -> AsyncIterator[Database]:
        """A database that nobody used before; `template0` makes it an empty one."""
        name = f"test_{os.getpid()}_{next(_NUMBERS)}"
        await self.ensure_running()
        await self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield self.database(name)
        finally:
            await self.ensure_running()
            await self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def execute(self, sql: str) -> None:
        """Run a statement as the superuser, outside any test's database."""
        connection = await asyncpg.connect(self.dsn(SUPERUSER, SUPERUSER))
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    async def kill(self) -> None:
        """kill -9 for every process of it, as a power cut would."""
        with contextlib.ExitStack() as handles:
            # The server processes of connections would live on for a moment and go on answering.
            below = [os.pidfd_open(child) for child, parent in parents() if parent == self._server.pid]
            for handle in below:
                handles.callback(os.close, handle)
            os.kill(self._server.pid, signal.SIGKILL)
            for handle in below:
                send(handle, signal.SIGKILL)
                await until_readable(handle)
        await self._loop.call(self._server.wait())

    async def stop_immediately(self) -> None:
        """The immediate shutdown: nothing is written, the next start recovers."""
        os.kill(self._server.pid, signal.SIGQUIT)
        await self._loop.call(self._server.wait())

    async def start(self) -> None:
        """Start it again, with the same addresses."""
        await self._loop.call(self._server.start())

    async def ensure_running(self) -> None:
        """Start it when a test left it down."""
        with contextlib.suppress(OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
            await self.execute("SELECT 1")
            return
        await self.start()


@contextmanager
def shared_postgres(home: Path) -> Iterator[SharedPostgres]:
    """The session's Postgres, with its template migrated."""
    loop = LoopThread()
    server = EmbeddedPostgres(home / "shared")
    shared = SharedPostgres(server, loop)
    try:
        loop.run(server.start())
        shared.remember_addresses()
        loop.run(_make_template(shared))
        yield shared
    finally:
        with contextlib.suppress(ServerRefused, ProcessLookupError):
            loop.run(shared.stop_immediately())  # nobody needs what is in it
        loop.run(server.stop())
        loop.close()


async def _make_template(shared: SharedPostgres) -> None:
    await shared.execute(f"CREATE DATABASE {TEMPLATE}")
    connection = await asyncpg.connect(shared.dsn(SUPERUSER, TEMPLATE))
    try:
        await migrate(connection, PASSWORDS)
    finally:
        await connection.close()


class NatsServer:
    """A nats-server of one test, with its address kept while it is down."""

    def __init__(self, server: EmbeddedNats) -> None:
        self._server = server
        self.url = server.url

    @property
    def pid(self) -> int:
        """Its process."""
        return self._server.pid

    async def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        os.kill(self._server.pid, signal.SIGKILL)
        await self._server.wait()

    async def stop(self) -> None:
        """Stop it as an administrator would."""
        await self._server.stop()

    async def start(self) -> None:
        """Start it again on the same port and store."""
        await self._server.start()


@asynccontextmanager
async def fresh_nats(home: Path) -> AsyncIterator[NatsServer]:
    """A nats-server with an empty store."""
    async with EmbeddedNats(home / f"bus-{next(_NUMBERS)}") as server:
        yield NatsServer(server)
