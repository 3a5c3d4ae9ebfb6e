"""The whole system in one process tree: embedded Postgres and NATS where none are given, and every service."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Final, Protocol

from services.embedded.directory import make_directory, write_private
from services.embedded.nats import EmbeddedNats, Users
from services.embedded.postgres import EmbeddedPostgres
from services.embedded.secret_files import PASSWORD, READER, SecretFiles, role_passwords
from services.embedded.supervisor import Child, Supervisor
from shared.adapters.bus_permissions import PROVISION
from shared.adapters.clock import SystemClock
from shared.adapters.roles import ANON, READERS
from shared.config import Settings
from shared.domain.errors import BackupManagerError
from shared.domain.writers import Service, role_of
from shared.runtime.provision import provision, provision_bus

BEFORE_ROLES: Final = ("backup_worker", "backup_api")
"""The roles whose passwords older versions kept; now each service has its own."""

PASSWORD_BYTES: Final = 24
CONNECTION_FILE: Final = "connection.env"
FIRST_DELAY_SECONDS: Final = 0.5
LONGEST_DELAY_SECONDS: Final = 30.0

log = logging.getLogger(__name__)


class Server(Protocol):
    """An embedded server."""

    async def start(self) -> None:
        """Start it."""

    async def wait(self) -> int:
        """Wait until it ended."""
        ...

    async def stop(self) -> None:
        """Stop it."""


@dataclass(frozen=True, slots=True)
class Connections:
    """How somebody reaches the log and the bus, with which key for the bus. The addresses may hold secrets."""

    postgres_dsn: str
    nats_url: str
    nats_nkey_file: Path | None = None


class System:
    """Runs everything until told to stop; what was running before is never touched."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        snapshotters: int = 1,
        schedulers: int = 1,
        output_fd: int | None = None,
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._data_dir = settings.data_dir
        self.secrets = SecretFiles(self._data_dir / "secrets")
        single = dict.fromkeys((Service.ARCHIVER, Service.RETENTION, Service.RESTORER, Service.API), 1)
        self._counts = {Service.SCHEDULER: schedulers, Service.SNAPSHOTTER: snapshotters, **single}
        self._output_fd = output_fd
        self.postgres: EmbeddedPostgres | None = None
        self.nats: EmbeddedNats | None = None
        self.supervisor: Supervisor | None = None

    async def run(
        self,
        stop: asyncio.Event,
        *,
        ready: Callable[[Connections], Awaitable[None]] | None = None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Start, call `ready`, run until `stop` is set, stop. `progress` hears a sentence for each slow step."""
        async with contextlib.AsyncExitStack() as stack:
            connections = await self._start_servers(stack, progress)
            progress("Starting the services")
            supervisor = self.supervisor = self._supervise()
            async with asyncio.TaskGroup() as tasks:
                watchers = [
                    tasks.create_task(_keep_alive(server, again))
                    for server, again in ((self.postgres, _nothing), (self.nats, self._set_bus_up))
                    if server
                ]
                try:
                    async with asyncio.TaskGroup() as services:
                        services.create_task(supervisor.run(stop))
                        if ready is not None:
                            await ready(connections)
                        await stop.wait()
                finally:
                    for watcher in watchers:
                        watcher.cancel()

    async def _start_servers(self, stack: contextlib.AsyncExitStack, progress: Callable[[str], None]) -> Connections:
        await asyncio.to_thread(make_directory, self._data_dir)
        await asyncio.to_thread(self._make_secrets)
        if not self._settings.postgres_dsn:
            progress("Starting the event log (Postgres)")
            self.postgres = await stack.enter_async_context(EmbeddedPostgres(self._data_dir))
        if not self._settings.nats_url:
            progress("Starting the bus (NATS)")
            users = Users(self.secrets.users_conf, self.secrets.key(PROVISION))
            self.nats = await stack.enter_async_context(EmbeddedNats(self._data_dir, users=users))
        await self._provision()
        connections = self._connections(Service.OPERATOR)
        await asyncio.to_thread(self._write_connections, connections)
        stack.callback((self._data_dir / CONNECTION_FILE).unlink, missing_ok=True)
        return connections

    async def _provision(self) -> None:
        settings = self._settings
        passwords: dict[str, str] = {}
        admin_dsn = settings.postgres_admin_dsn or settings.postgres_dsn
        if self.postgres is not None:
            admin_dsn = self.postgres.backup_admin_dsn
            passwords = await asyncio.to_thread(role_passwords, self.secrets.provisioning)
            passwords[READERS] = token_hex(PASSWORD_BYTES)  # it only reads now, and nobody logs in as it any more
        url, key = self._bus(PROVISION)
        await provision(settings, admin_dsn=admin_dsn, nats_url=url, nkey_file=key, passwords=passwords)
        await asyncio.to_thread(self._forget_older_secrets)

    async def _set_bus_up(self) -> None:
        """Without its streams nothing would ever be done again: the bus may have lost what it stored."""
        if self.nats is not None:
            await provision_bus(self._settings, *self._bus(PROVISION))

    def _bus(self, user: str) -> tuple[str, Path | None]:
        """The address of the bus, and the key of one of its users."""
        if self.nats is None:
            return self._settings.nats_url, self._settings.nats_nkey_file
        return self.nats.url, self.secrets.key(user)

    def _connections(self, service: Service) -> Connections:
        """How one service reaches what is embedded, or what the settings name for all of them."""
        dsn = self._settings.postgres_dsn
        if self.postgres is not None:
            dsn = self.postgres.dsn(role_of(service), self.secrets.password(service))
        return Connections(dsn, *self._bus(service))

    def _make_secrets(self) -> None:
        older = self.secrets.folder / ANON
        if older.is_file():  # as an older version kept it, for others who read the views
            make_directory(self.secrets.folder / READER, 0o700)
            older.rename(self.secrets.folder / READER / PASSWORD)
        self.secrets.make(self._settings.stores, superuser=False)

    def _forget_older_secrets(self) -> None:
        for role in BEFORE_ROLES:
            (self.secrets.folder / role).unlink(missing_ok=True)
        (self._data_dir / "nats" / "token").unlink(missing_ok=True)

    def _write_connections(self, connections: Connections) -> None:
        # Where `backup-manager status` and the others find the running system.
        text = f"NATS_URL={connections.nats_url}\nPOSTGRES_DSN={connections.postgres_dsn}\n"
        if connections.nats_nkey_file is not None:
            text += f"NATS_NKEY_FILE={connections.nats_nkey_file}\n"
        write_private(self._data_dir / CONNECTION_FILE, text)

    def _supervise(self) -> Supervisor:
        children = [
            Child(f"{service}-{number}", (sys.executable, "-m", f"services.{service}"), self._environment(service))
            for service, count in self._counts.items()
            for number in range(1, count + 1)
        ]
        return Supervisor(children, clock=SystemClock(), output_fd=self._output_fd)

    def _environment(self, service: Service) -> dict[str, str]:
        """What a service is told: of the secrets, its own."""
        environ = dict(self._environ)
        environ.pop("POSTGRES_ADMIN_DSN", None)
        environ.setdefault("PATH", os.defpath)
        found = self._connections(service)
        if self.nats is not None:
            environ |= {"NATS_URL": found.nats_url, "NATS_NKEY_FILE": str(found.nats_nkey_file)}
        if self.postgres is not None:
            environ["POSTGRES_DSN"] = found.postgres_dsn
        return environ


async def _nothing() -> None:
    """What is to be done with a server that keeps what it has."""


async def _keep_alive(server: Server, again: Callable[[], Awaitable[None]]) -> None:
    """Start a server again whenever it ends and make it ready; one that does not come up is tried until it does.

    Whatever the reason: its drive may be full, or fail, and the backups go on without it.
    """
    name = type(server).__name__
    while True:
        code = await server.wait()
        log.warning("%s ended with code %d; starting it again.", name, code)
        delay_seconds = FIRST_DELAY_SECONDS
        while True:
            await asyncio.sleep(delay_seconds)
            try:
                await server.start()
                await again()
                break
            except (BackupManagerError, OSError) as error:
                delay_seconds = min(2 * delay_seconds, LONGEST_DELAY_SECONDS)
                log.error("%s does not start: %s Trying again in %g s.", name, error, delay_seconds)


def read_connections(data_dir: Path) -> Connections | None:
    """How to reach the system that runs on this data folder; None when none does."""
    try:
        lines = (data_dir / CONNECTION_FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    key = found.get("NATS_NKEY_FILE")
    return Connections(found["POSTGRES_DSN"], found["NATS_URL"], None if key is None else Path(key))
