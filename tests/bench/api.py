"""The API on a long log: how soon the first page is there, how long the dashboard and a past moment take.

Requests are sent at a fixed rate whether or not the ones before were answered, so that waiting in line counts.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

import asyncpg
import httpx

from services.embedded.sshd import free_port
from shared.adapters import process
from shared.adapters.clock import SystemClock
from tests.bench.long_history import fill, host_names
from tests.bench.options import BenchmarkBroken, Options
from tests.bench.samples import Samples
from tests.bench.servers import Servers, servers, settings_of
from tests.bench.table import Found, Row, below
from tests.bench.watchers import watched

HOSTS: Final = 200
RATE: Final = 100
READY_SECONDS: Final = 600.0


async def measure(options: Options) -> Found:
    """Start the API twice, from the log alone and from what it saved, and ask it."""
    events = options.size(5_000_000, quick=20_000)
    now = SystemClock().now()
    async with servers(options.folder, settings_of(options.folder)) as place:
        options.say(f"Writing {events:,} events ...")
        admin = await asyncpg.connect(place.admin_dsn)
        await fill(admin, events, HOSTS, now)
        rows = []
        async with _api(options, place) as (_, _, seconds):
            rows.append(below("start to first page, from the log alone", Samples([seconds]), 10, unit=" s"))
            await _saved(admin)
        await admin.close()
        async with _api(options, place) as (client, pid, seconds):
            rows.append(below("start to first page, from a saved projection", Samples([seconds]), 1, unit=" s"))
            rows += [await _at_rate(options, client, path) for path in ("/", "/api/status")]
            moments = [now - timedelta(days=days) for days in (1, 30, 60, 100, 140)]
            asked = Samples([await _timed(client, "/", {"at": at.isoformat()}) for at in moments])
            rows.append(below("a past moment", asked, 1, unit=" s"))
            rows += await watched(client.base_url.port or 0, pid, place.dsn)
    return Found(
        f"api: {HOSTS} hosts, {events:,} events", rows, ["the API, Postgres and who asks share the processors"]
    )


@asynccontextmanager
async def _api(options: Options, place: Servers) -> AsyncIterator[tuple[httpx.AsyncClient, int, float]]:
    """The API in a process of its own, its pid, and how long it took to its first page."""
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("BACKUP_")},
        "POSTGRES_DSN": place.dsn,
        "NATS_URL": place.nats_url,
        "BACKUP_ROOT": str(options.folder / "store"),
        "HOSTS": ",".join(host_names(HOSTS)),
        "API_LISTEN": f"127.0.0.1:{port}",
    }
    started = time.perf_counter()
    argv = process.dying_with_parent([sys.executable, "-m", "services.api"], signal_name="TERM")
    async with (
        await process.start(argv, env=environment) as running,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        async with asyncio.timeout(READY_SECONDS):
            while not await _is_there(client):
                if running.returncode is not None:
                    raise BenchmarkBroken("The API ended.", bytes(running.stderr).decode(errors="replace"))
                await asyncio.sleep(0.01)
        yield client, running.pid, time.perf_counter() - started


async def _is_there(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/")).status_code == 200
    except httpx.TransportError:
        return False


async def _saved(admin: asyncpg.Connection) -> None:
    """Wait until a projection of the present is saved and the gaps of the past are filled."""
    known, quiet = -1, 0
    async with asyncio.timeout(READY_SECONDS):
        while quiet < 20 or not known:
            count = await admin.fetchval("SELECT count(*) FROM log.projections")
            quiet = quiet + 1 if count == known else 0
            known = count
            await asyncio.sleep(0.5)


async def _timed(client: httpx.AsyncClient, path: str, params: dict[str, str] | None = None) -> float:
    started = time.perf_counter()
    answer = await client.get(path, params=params)
    if answer.status_code != 200:
        raise BenchmarkBroken(f"{path} answers {answer.status_code}.", answer.text[:200])
    return time.perf_counter() - started


async def _at_rate(options: Options, client: httpx.AsyncClient, path: str) -> Row:
    """The slowest hundredth of requests that come at a fixed rate."""
    asking, began = [], time.perf_counter()
    for number in range(options.size(20 * RATE, quick=20)):
        await asyncio.sleep(max(0.0, began + number / RATE - time.perf_counter()))
        asking.append(asyncio.create_task(_timed(client, path)))
    taken = sorted(await asyncio.gather(*asking))
    slow = Samples([1000 * taken[int(len(taken) * 0.99)]])
    return below(f"{path} at {RATE} requests/s, p99", slow, 50, unit=" ms", digits=1)
