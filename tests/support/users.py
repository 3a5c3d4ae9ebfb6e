"""A bus with its users, and a database in which each service has a role of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from nats.aio.client import Client

from services.embedded.cluster import SUPERUSER
from services.embedded.nats import EmbeddedNats, Users
from services.embedded.secret_files import SecretFiles, role_passwords
from shared.adapters.bus_client import BusUser, KeyedClient
from shared.adapters.bus_permissions import PROVISION
from shared.adapters.jetstream import Bus
from shared.adapters.migrate import migrate
from shared.domain.names import StoreName
from shared.domain.writers import Service, role_of
from tests.support.servers import Database, SharedPostgres

ACK_WAIT_SECONDS = 30


@dataclass
class GuardedBus:
    """A nats-server that knows the users of these secrets, with everything declared for the store `main`."""

    server: EmbeddedNats
    secrets: SecretFiles

    @property
    def url(self) -> str:
        return self.server.url

    def user(self, name: str) -> BusUser:
        return BusUser(name, self.secrets.key(name))

    @asynccontextmanager
    async def bus(self, name: str) -> AsyncIterator[Bus]:
        """A connection as this product makes it."""
        bus = await Bus.connect(self.url, self.user(name))
        try:
            yield bus
        finally:
            await bus.close()

    @asynccontextmanager
    async def client(self, name: str) -> AsyncIterator[Client]:
        """A client with the user's key and nothing else of ours."""
        client = await KeyedClient.plainly(self.url, self.user(name))
        try:
            yield client
        finally:
            await client.close()


@asynccontextmanager
async def guarded_bus(place: Path) -> AsyncIterator[GuardedBus]:
    secrets = SecretFiles(place / "secrets")
    secrets.make([StoreName("main")], superuser=False)
    users = Users(secrets.users_conf, secrets.key(PROVISION))
    async with EmbeddedNats(place, users=users) as server:
        guarded = GuardedBus(server, secrets)
        async with guarded.bus(PROVISION) as bus:
            await bus.provision(["main"], ACK_WAIT_SECONDS)
        yield guarded


@dataclass(frozen=True)
class GuardedDatabase:
    """A database whose roles were provisioned with passwords of their own."""

    database: Database
    dsns: dict[Service, str]

    @asynccontextmanager
    async def connected(self, service: Service) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self.dsns[service], command_timeout=10)
        try:
            yield connection
        finally:
            await connection.close()


@asynccontextmanager
async def guarded_database(shared: SharedPostgres, place: Path) -> AsyncIterator[GuardedDatabase]:
    """A fresh one. The roles belong to the whole server: only passwords that no other test uses are changed."""
    secrets = SecretFiles(place / "secrets")
    secrets.make([StoreName("main")], superuser=False)
    kept = {role_of(Service.API), "backup_anon"}
    passwords = {role: word for role, word in role_passwords(secrets.provisioning).items() if role not in kept}
    async with shared.fresh_database() as database:
        connection = await asyncpg.connect(database.admin_dsn)
        try:
            await migrate(connection, passwords)
        finally:
            await connection.close()
        dsns = {
            service: shared.dsn(SUPERUSER, database.name).replace(
                shared.dsn(SUPERUSER, database.name).split("//")[1].split("@")[0],
                f"{role_of(service)}:{passwords.get(role_of(service), '')}",
            )
            for service in Service
        }
        yield GuardedDatabase(database, dsns | {Service.API: database.api_dsn})
