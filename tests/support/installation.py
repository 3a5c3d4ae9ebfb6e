"""A whole system for a test: hosts behind one throw-away SSH server, a drive, every service as a process."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from services.embedded.sshd import ThrowawaySshd, free_port
from services.embedded.system import Connections, System
from shared.adapters import process
from shared.adapters.bus_client import BusUser, KeyedClient
from shared.adapters.clock import SystemClock
from shared.adapters.postgres import EventLog
from shared.adapters.store import Store
from shared.config import Settings, load_settings
from shared.domain.errors import LogUnavailable
from shared.domain.events import AnyEvent, BackupRequested, Recorded, RequestRefused, SnapshotCompleted
from shared.domain.names import StoreName
from shared.domain.writers import Service

PATIENCE_SECONDS = 90.0
FAST_BUS = "[bus]\nack_wait_seconds = 6\nheartbeat_seconds = 1\nretry_seconds = 1\noffline_retry_seconds = 1\n"


@dataclass
class Installation:
    """A running system. Paths: `place` holds everything, `drive` is BACKUP_ROOT, `source` has a folder per host."""

    place: Path
    hosts: Sequence[str]
    sshd: ThrowawaySshd
    settings: Settings
    environ: dict[str, str]
    system: System | None = None
    connections: Connections | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _task: asyncio.Task[None] | None = None

    @property
    def drive(self) -> Path:
        return self.place / "drive"

    def source(self, host: str) -> Path:
        """The folder whose `home` is backed up."""
        return self.place / "source" / host

    def folder(self, host: str) -> Path:
        """The host's folder on the drive."""
        return self.drive / host

    def snapshots(self, host: str) -> list[Path]:
        """Its snapshot folders, oldest first."""
        hourly = self.folder(host) / "hourly"
        return sorted(hourly.iterdir()) if hourly.exists() else []

    async def start(self, *, snapshotters: int = 1, schedulers: int = 1) -> None:
        """Start all services and wait until they can be reached."""
        output = os.open(self.place / "services.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._stop = asyncio.Event()
        system = System(self.settings, self.environ, snapshotters=snapshotters, schedulers=schedulers, output_fd=output)
        up: asyncio.Future[Connections] = asyncio.get_running_loop().create_future()

        async def ready(connections: Connections) -> None:
            up.set_result(connections)

        self.system = system
        self._task = asyncio.create_task(system.run(self._stop, ready=ready))
        self._task.add_done_callback(lambda _: os.close(output))
        either: set[asyncio.Future[Any]] = {self._task, up}
        await asyncio.wait(either, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            await self._task
        self.connections = up.result()

    async def stop(self) -> None:
        """Stop everything cleanly."""
        self._stop.set()
        if self._task is not None:
            await asyncio.wait_for(self._task, PATIENCE_SECONDS)
            self._task = None

    def open_log(self, service: Service = Service.OPERATOR) -> EventLog:
        """The event log, as somebody."""
        assert self.system is not None
        return EventLog(self.system._connections(service).postgres_dsn)

    async def wait_for(self, wanted: Callable[[list[Recorded]], bool], *, what: str) -> list[Recorded]:
        """All events as soon as they are as wanted. Waits through outages of the log."""
        seen: list[Recorded] = []
        log = self.open_log()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while True:
                    try:
                        async for page in log.follow(seen[-1].position if seen else 0):
                            seen += page
                            if wanted(seen):
                                return seen
                            self._raise_when_ended()
                    except LogUnavailable:
                        await asyncio.sleep(0)
        except TimeoutError as error:
            words = "\n".join(f"{event.position} {event.stream} {event.event}" for event in seen[-30:])
            raise AssertionError(f"{what} did not happen.\nThe last events:\n{words}\n{self.journal()}") from error
        finally:
            await log.close()

    def _raise_when_ended(self) -> None:
        if self._task is not None and self._task.done():
            self._task.result()
            raise AssertionError("The system has ended.")

    async def one_more_run(self, host: str, *, until: type[AnyEvent] = SnapshotCompleted) -> list[Recorded]:
        """Ask for a run until it is granted (a tick that is not settled yet refuses the next), and wait for its end."""
        done = len(of_type(await self.events(), until, host))
        refused = len(of_type(await self.events(), RequestRefused, host))
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            await self.next_second(host)
            await self.publish(f"backup.trigger.{host}")
            events = await self.wait_for(
                lambda events: (
                    len(of_type(events, until, host)) > done or len(of_type(events, RequestRefused, host)) > refused  # noqa: B023  # used before it changes
                ),
                what=f"One more run of {host}",
            )
            if len(of_type(events, until, host)) > done:
                return events
            refused = len(of_type(events, RequestRefused, host))
        raise AssertionError(f"The tick of {host} is never settled.\n{self.journal()}")

    async def next_second(self, host: str) -> None:
        """Wait until the second of the last wish is over: two wishes of one second are one run, and told alike."""
        slots = [wish.event.slot for wish in await self.events(host) if isinstance(wish.event, BackupRequested)]
        async with asyncio.timeout(10):
            while slots and SystemClock().now() < slots[-1] + timedelta(seconds=1):  # noqa: ASYNC110  # no clock calls
                await asyncio.sleep(0.01)

    async def asked_for(self, host: str, job: str) -> str:
        """Ask for a job by the command line until it is granted; what it said until the outcome was there."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            done = await self.cli("trigger", host, "--job", job, "--wait", check=False)
            said = done.stdout.decode() + done.stderr.decode()
            if "already pending or running" not in said and "in this very second" not in said:
                return said
        raise AssertionError(f"The tick of {host} is never settled.\n{self.journal()}")

    def journal(self) -> str:
        """What the services said last."""
        return (self.place / "services.log").read_text(errors="replace")[-6000:]

    async def events(self, host: str | None = None) -> list[Recorded]:
        """Everything in the log, or in a host's stream."""
        log = self.open_log()
        try:
            found = [recorded async for page in log.pages() for recorded in page]
        finally:
            await log.close()
        return [recorded for recorded in found if host is None or recorded.stream == f"host-{host}"]

    def bus_user(self, service: Service) -> BusUser:
        """A service, as the bus knows it."""
        assert self.system is not None
        return BusUser(service, self.system.secrets.key(service))

    async def foreign_client(self, service: Service = Service.OPERATOR) -> Client:
        """A client that is not ours, with the key of somebody."""
        assert self.connections is not None
        return await KeyedClient.plainly(self.connections.nats_url, self.bus_user(service))

    async def publish(self, subject: str, body: bytes = b"", service: Service = Service.OPERATOR) -> None:
        """Publish as a client that is not ours, with the key of somebody."""
        self._raise_when_ended()
        client = await self.foreign_client(service)
        await client.publish(subject, body)
        await client.drain()

    async def cli(self, *words: str, check: bool = True) -> process.Finished:
        """Run the command line against this system."""
        argv = [sys.executable, "-m", "services.cli", *words]
        done = await process.run(argv, timeout_seconds=PATIENCE_SECONDS, env=self.environ, cwd=self.place)
        if check:
            assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
        return done


@asynccontextmanager
async def installation(
    place: Path, hosts: Sequence[str], *, toml: str = FAST_BUS, host_toml: str = "", env: str = ""
) -> AsyncIterator[Installation]:
    """Everything but the running services: the caller makes the homes, then starts."""
    async with ThrowawaySshd(place / "sshd") as sshd:
        (place / "drive").mkdir()
        Store.create(place / "drive", StoreName("main"), uuid.uuid4()).close()
        (place / "known_hosts").write_text("".join(f"{sshd.known_hosts_line(host).strip()}\n" for host in hosts))
        environ = write_settings(place, hosts, sshd, toml=toml, host_toml=host_toml, env=env)
        settings = load_settings({}, env_file=place / "test.env", toml_file=place / "backup.toml")
        made = Installation(place, hosts, sshd, settings, environ)
        try:
            yield made
        finally:
            await made.stop()


def write_settings(
    place: Path, hosts: Sequence[str], sshd: ThrowawaySshd, *, toml: str, host_toml: str, env: str
) -> dict[str, str]:
    """Write test.env and backup.toml; returns the environment that points to them."""
    (place / "test.env").write_text(
        f"BACKUP_ROOT={place / 'drive'}\nBACKUP_DATA={place / 'data'}\nHOSTS={','.join(hosts)}\n"
        f"API_LISTEN=127.0.0.1:{free_port()}\n{env}"
    )
    tables = [
        f'[hosts.{host}]\naddress = "127.0.0.1"\nport = {sshd.port}\nuser = "{sshd.user}"\nkey = "{sshd.client_key}"\n'
        f'known_hosts = "{place / "known_hosts"}"\npaths = ["{place / "source" / host}/./home"]\n{host_toml}'
        for host in hosts
    ]
    (place / "backup.toml").write_text(toml + "\n".join(tables))
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    root = str(Path(__file__).parents[2])
    return kept | {
        "BACKUP_ENV_FILE": str(place / "test.env"),
        "BACKUP_TOML_FILE": str(place / "backup.toml"),
        "PYTHONPATH": root,
    }


def of_type(events: Sequence[Recorded], kind: type[AnyEvent], host: str | None = None) -> list[Recorded]:
    """The events of one type, and of one host if named."""
    return [
        recorded
        for recorded in events
        if isinstance(recorded.event, kind) and (host is None or recorded.stream == f"host-{host}")
    ]
