"""The fixtures that tests share: real servers, a fresh database and a fresh bus for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from hypothesis import settings

from shared.adapters.jetstream import Bus
from shared.adapters.postgres import EventLog
from tests.support.places import new_place
from tests.support.servers import Database, NatsServer, SharedPostgres, fresh_nats, shared_postgres

ACK_WAIT_SECONDS = 30

settings.register_profile("noisy", deadline=None)  # the machine is shared: how long an example takes says nothing
settings.load_profile("noisy")


@pytest.fixture(scope="session")
def session_home() -> Iterator[Path]:
    """Where the servers of this session keep their files."""
    with new_place() as home:
        yield home


@pytest.fixture(scope="session")
def shared_server(session_home: Path) -> Iterator[SharedPostgres]:
    """The Postgres of this session, with a migrated template. A test may kill and start it."""
    with shared_postgres(session_home) as server:
        yield server


@pytest.fixture
async def database(shared_server: SharedPostgres) -> AsyncIterator[Database]:
    """A migrated database of this test alone."""
    async with shared_server.fresh_database() as fresh:
        yield fresh


@pytest.fixture
async def log(database: Database) -> AsyncIterator[EventLog]:
    """The event log, as a worker sees it."""
    events = EventLog(database.worker_dsn)
    yield events
    await events.close()


@pytest.fixture
async def admin(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """The superuser in the same database."""
    connection = await asyncpg.connect(database.admin_dsn)
    yield connection
    connection.terminate()


@pytest.fixture
async def nats_server(session_home: Path) -> AsyncIterator[NatsServer]:
    """A nats-server of this test alone. A test may kill and start it."""
    async with fresh_nats(session_home) as server:
        yield server


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    """The bus with everything that is declared for the store `main`."""
    connected = await Bus.connect(nats_server.url, "test")
    await connected.provision(["main"], ACK_WAIT_SECONDS)
    yield connected
    await connected.close()
