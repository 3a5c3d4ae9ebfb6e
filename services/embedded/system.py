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
from typing import Final, Protocol

from services.embedded.directory import ServerFailed, make_directory, secret, write_private
from services.embedded.nats import EmbeddedNats
from services.embedded.postgres import EmbeddedPostgres
from services.embedded.supervisor import Child, Supervisor
from shared.adapters.clock import SystemClock
from shared.config import Settings
from shared.runtime.provision import provision

SERVICE_ROLE: Final = "backup_worker"
ROLES: Final = ("backup_worker", "backup_api", "backup_anon")
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
    """How the services reach the log and the bus. Both hold secrets."""

    postgres_dsn: str
    nats_url: str


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
        single = dict.fromkeys(("archiver", "retention", "restorer", "api"), 1)
        self._counts = {"scheduler": schedulers, "snapshotter": snapshotters, **single}
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
            supervisor = self.supervisor = self._supervise(connections)
            async with asyncio.TaskGroup() as tasks:
                watchers = [tasks.create_task(_keep_alive(server)) for server in (self.postgres, self.nats) if server]
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
        dsn = self._settings.postgres_dsn
        admin_dsn = self._settings.postgres_admin_dsn or dsn
        passwords: dict[str, str] = {}
        if not dsn:
            progress("Starting the event log (Postgres)")
            self.postgres = await stack.enter_async_context(EmbeddedPostgres(self._data_dir))
            passwords = await asyncio.to_thread(self._passwords)
            admin_dsn = self.postgres.backup_admin_dsn
            dsn = self.postgres.dsn(SERVICE_ROLE, passwords[SERVICE_ROLE])
        url = self._settings.nats_url
        if not url:
            progress("Starting the bus (NATS)")
            self.nats = await stack.enter_async_context(EmbeddedNats(self._data_dir))
            url = self.nats.url
        await provision(self._settings, admin_dsn=admin_dsn, nats_url=url, passwords=passwords)
        connections = Connections(dsn, url)
        await asyncio.to_thread(self._write_connections, connections)
        stack.callback((self._data_dir / CONNECTION_FILE).unlink, missing_ok=True)
        return connections

    def _passwords(self) -> dict[str, str]:
        folder = self._data_dir / "secrets"
        make_directory(folder, 0o700)
        return {role: secret(folder / role) for role in ROLES}

    def _write_connections(self, connections: Connections) -> None:
        # Where `backup-manager status` and the others find the running system.
        text = f"NATS_URL={connections.nats_url}\nPOSTGRES_DSN={connections.postgres_dsn}\n"
        write_private(self._data_dir / CONNECTION_FILE, text)

    def _supervise(self, connections: Connections) -> Supervisor:
        environ = {**self._environ, "NATS_URL": connections.nats_url, "POSTGRES_DSN": connections.postgres_dsn}
        environ.pop("POSTGRES_ADMIN_DSN", None)
        environ.setdefault("PATH", os.defpath)
        children = [
            Child(f"{service}-{number}", (sys.executable, "-m", f"services.{service}"), environ)
            for service, count in self._counts.items()
            for number in range(1, count + 1)
        ]
        return Supervisor(children, clock=SystemClock(), output_fd=self._output_fd)


async def _keep_alive(server: Server) -> None:
    """Start a server again whenever it ends; one that does not come up is tried again until it does."""
    name = type(server).__name__
    while True:
        code = await server.wait()
        log.warning("%s ended with code %d; starting it again.", name, code)
        delay_seconds = FIRST_DELAY_SECONDS
        while True:
            await asyncio.sleep(delay_seconds)
            try:
                await server.start()
                break
            except ServerFailed as error:
                delay_seconds = min(2 * delay_seconds, LONGEST_DELAY_SECONDS)
                log.error("%s Trying again in %g s.", error, delay_seconds)


def read_connections(data_dir: Path) -> Connections | None:
    """How to reach the system that runs on this data folder; None when none does."""
    try:
        lines = (data_dir / CONNECTION_FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    found = dict(line.split("=", 1) for line in lines if "=" in line)
    return Connections(found["POSTGRES_DSN"], found["NATS_URL"])
