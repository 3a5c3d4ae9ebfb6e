"""Where the service listens: on this machine alone until there is a user, then also where API_LISTEN says."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import uvicorn

from shared.config import Settings
from shared.domain.errors import BackupManagerError

LEAVE_SECONDS: Final = 3
USER_TIMEOUT_MS: Final = 600_000
"""A connection that takes no byte for so long is given up by the kernel."""
RETRY_SECONDS: Final = 30.0
TICK_SECONDS: Final = 1.0
LOOPBACK: Final = ("127.0.0.1", "::1")

log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """A server whose signals belong to the service around it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._leaving = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # of the base class
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        """Note the date for the answers once a second, until it is time to leave.

        The base class looks ten times as often whether it is, which costs more than all else while nobody asks.
        """
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_SECONDS):
                    await self._leaving.wait()

    def leave(self) -> None:
        """End when what is under way has ended."""
        self.should_exit = True
        self._leaving.set()

    def listen_no_more(self) -> None:
        """Take no new connections; those that are open go on."""
        for server in self.servers:
            server.close()


class Listening:
    """An application behind one or two sockets of the same port."""

    def __init__(self, app: Any, settings: Settings) -> None:
        self._app = app
        self._local = settings.local_address()
        self._address = ipaddress.ip_address(settings.api_listen[0])
        self._port = settings.api_listen[1]

    async def serve(self, first_user: asyncio.Event, stop: asyncio.Event, ending: Callable[[], None]) -> None:
        """Serve until told to stop; `ending` is called then, so that nobody who waits for something holds us up.

        Raises BackupManagerError when the address is taken.
        """
        if not self._address.is_loopback and not first_user.is_set():
            log.info("There are no users yet, so only this machine is answered, not %s.", self._address)
        async with self._serving(self._local, lifespan=True) as server:
            stopping = asyncio.create_task(stop.wait())
            wider = asyncio.create_task(self._widen(server, first_user, stop))
            try:
                waits: set[asyncio.Task[Any]] = {stopping, wider, server.serving}
                done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                ending()
                for task in (wider, stopping):
                    task.cancel()
                await asyncio.gather(wider, stopping, return_exceptions=True)
            for ended in done:
                ended.result()

    async def _widen(self, local: _Serving, first_user: asyncio.Event, stop: asyncio.Event) -> None:
        """When there is a user, listen where the settings say; and try that again until it works."""
        if self._address.is_loopback:
            await stop.wait()
            return
        await first_user.wait()
        await local.server.ready.wait()
        if self._address.is_unspecified:  # it stands for loopback too, which must make room for it
            local.server.listen_no_more()
        while True:
            try:
                async with self._serving(str(self._address), lifespan=False) as server:
                    await server.serving
            except BackupManagerError as error:
                log.error("%s Trying again in %g s.", error, RETRY_SECONDS)
            await asyncio.sleep(RETRY_SECONDS)

    @contextlib.asynccontextmanager
    async def _serving(self, address: str, *, lifespan: bool) -> AsyncIterator[_Serving]:
        server = _Server(
            uvicorn.Config(
                self._app,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=LEAVE_SECONDS,
                lifespan="on" if lifespan else "off",
                proxy_headers=True,
                forwarded_allow_ips=list(LOOPBACK),  # a proxy on this machine says who asks, and whether by TLS
            )
        )
        with _socket(address, self._port) as listening:
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            try:
                yield _Serving(server, serving)
            finally:
                server.leave()
                await serving


class _Serving:
    """A server, and the task that it runs in."""

    def __init__(self, server: _Server, serving: asyncio.Task[None]) -> None:
        self.server = server
        self.serving = serving


@contextlib.contextmanager
def _socket(address: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens. Raises BackupManagerError when the address is taken."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    both = address == "::" and socket.has_dualstack_ipv6()
    shown = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    try:
        listening = socket.create_server((address, port), family=family, dualstack_ipv6=both)
    except OSError as error:
        raise BackupManagerError(
            f"The dashboard cannot listen on {shown}: {os.strerror(error.errno or 0)}.",
            "Is the port taken? API_LISTEN chooses another.",
        ) from error
    log.info("The dashboard is on http://%s/.", shown)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)  # each connection inherits it
    with listening:
        yield listening
