"""Three nats-servers that are one bus, started as `deploy/cluster/nats.conf` tells."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sysconfig
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import nats
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from services.embedded.sshd import free_port
from shared.adapters import process
from tests.support.backups import REPOSITORY

CONFIGURATION: Final = REPOSITORY / "deploy/cluster/nats.conf"
NAMES: Final = ("backup-1", "backup-2", "backup-3")
READY_WITHIN_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.1


@dataclass
class Cluster:
    """The three servers; each can be killed and started again."""

    place: Path
    ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in NAMES})
    cluster_ports: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in NAMES})
    running: dict[str, process.Running] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """All three, as NATS_URL has them."""
        return ",".join(self.url_of(name) for name in NAMES)

    def url_of(self, name: str) -> str:
        """One of them."""
        return f"nats://127.0.0.1:{self.ports[name]}"

    async def start(self, name: str) -> None:
        """Start one of them."""
        environment = {
            "NATS_NAME": name,
            "NATS_LISTEN": f"127.0.0.1:{self.ports[name]}",
            "NATS_CLUSTER": f"127.0.0.1:{self.cluster_ports[name]}",
            "NATS_STORE": str(self.place / name),
        }
        routes = (f"nats-route://127.0.0.1:{port}" for port in self.cluster_ports.values())
        environment |= {f"NATS_ROUTE_{number}": route for number, route in enumerate(routes, 1)}
        server = Path(sysconfig.get_path("scripts")) / "nats-server"
        argv = process.dying_with_parent([str(server), "--config", str(CONFIGURATION)])
        said = os.open(self.place / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            self.running[name] = await process.start(argv, env=environment, stdout=said, stderr=said)
        finally:
            os.close(said)

    async def kill(self, name: str) -> None:
        """SIGKILL one of them."""
        running = self.running.pop(name)
        os.kill(running.pid, signal.SIGKILL)
        await running.wait()

    async def leader_of(self, stream: str) -> str:
        """Who leads a stream, or all of JetStream, now."""
        client = await nats.connect(self.url.split(","), connect_timeout=2)
        try:
            found = await client.jetstream(timeout=5).stream_info(stream)
            return (found.cluster.leader if found.cluster else None) or ""
        finally:
            await client.close()

    async def ready(self) -> None:
        """Wait until they have found each other."""
        async with asyncio.timeout(READY_WITHIN_SECONDS):
            for name in NAMES:
                while not await self._answers(name):  # noqa: ASYNC110  # only it itself knows
                    await asyncio.sleep(POLL_SECONDS)

    async def _answers(self, name: str) -> bool:
        with contextlib.suppress(NatsError, JetStreamError, OSError, TimeoutError):
            client = await nats.connect(self.url_of(name), connect_timeout=1, allow_reconnect=False, error_cb=_ignore)
            try:
                await client.jetstream(timeout=1).account_info()
                return True
            finally:
                await client.close()
        return False


async def _ignore(_: Exception) -> None:
    """A server that is not there yet is asked again."""


@contextlib.asynccontextmanager
async def cluster(place: Path) -> AsyncIterator[Cluster]:
    """Three servers, as long as the block lasts."""
    found = Cluster(place)
    try:
        for name in NAMES:
            await found.start(name)
        await found.ready()
        yield found
    finally:
        for name in list(found.running):
            await found.kill(name)
