"""Wires the API: it follows the log, talks to the bus, and serves pages and answers on this machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator
from typing import Final

import uvicorn
from litestar import Litestar

from services.api.app import make_app
from services.api.chain import Chain
from services.api.live import Live
from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import Bus
from shared.adapters.postgres import EventLog
from shared.adapters.projections import Projections
from shared.config import Settings
from shared.domain.errors import BackupManagerError
from shared.runtime.watch import fail_when_closed

QUICK_START_SECONDS: Final = 1.0
"""How long nobody can connect at first; after that they are told how much of the log was read."""
USER_TIMEOUT_MS: Final = 600_000
"""A connection that takes no byte for so long is given up by the kernel."""
LEAVE_SECONDS: Final = 3

log = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    """A server whose signals belong to the service around it."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # of the base class
        yield


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until told to stop. Raises BackupManagerError when the address is taken."""
    clock = SystemClock()
    events = EventLog(settings.postgres_dsn)
    bus = await Bus.connect(settings.nats_url, "api")
    checked = EventLog(settings.postgres_dsn)  # with connections of its own: nobody waits for a check
    saved = Projections(settings.postgres_dsn)
    live, chain = Live(events, saved, settings.postgres_dsn, clock), Chain(checked, clock)
    try:
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(live.run())
            tasks.create_task(fail_when_closed(bus, stop))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUICK_START_SECONDS):
                    await live.caught_up.wait()
            watching = tasks.create_task(chain.watch())
            app = make_app(settings, live=live, chain=chain, events=events, bus=bus, clock=clock)
            await _serve(settings, app, stop, live.end)
            following.cancel()
            watching.cancel()
    finally:
        await bus.close()
        await asyncio.gather(events.close(), checked.close(), saved.close())


async def _serve(settings: Settings, app: Litestar, stop: asyncio.Event, ending: Callable[[], None]) -> None:
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=LEAVE_SECONDS,
        lifespan="on",
    )
    server = _Server(config)
    with _listening(*settings.api_listen) as listening:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending()  # whoever waits for something to happen would hold us up
            server.should_exit = True
            stopping.cancel()
            await serving


@contextlib.contextmanager
def _listening(address: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens. Raises BackupManagerError when the address is taken."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    shown = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    try:
        listening = socket.create_server((address, port), family=family)
    except OSError as error:
        raise BackupManagerError(
            f"The dashboard cannot listen on {shown}: {os.strerror(error.errno or 0)}.",
            "Is the port taken? API_LISTEN chooses another.",
        ) from error
    log.info("The dashboard is on http://%s/.", shown)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)  # each connection inherits it
    with listening:
        yield listening
