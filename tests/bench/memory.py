"""What the services hold in memory: idle, and after snapshots of small and of large homes.

Each size gets a snapshotter process of its own, which takes a first snapshot and one of the unchanged home, both
asked for over the bus. Its peak must be that of the smallest home. rsync and sort are other processes, with bounds
of their own.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.embedded.sshd import ThrowawaySshd
from shared.adapters import process
from shared.adapters.jetstream import Bus
from shared.adapters.postgres import EventLog
from shared.adapters.store import Store
from shared.config import HostSettings
from shared.domain.events import SnapshotCompleted, SnapshotFailed
from shared.domain.messages import Trigger
from shared.domain.names import HostName, StoreName, host_stream
from tests.bench.drive import fresh_drive
from tests.bench.homes import build_home
from tests.bench.options import BenchmarkBroken, Options
from tests.bench.samples import Samples
from tests.bench.servers import Servers, servers, settings_of
from tests.bench.table import Found, Row, below

SIZES: Final = (5_000, 100_000, 300_000)
IDLE_MB: Final = 80.0
GROWTH: Final = 1.1
"""How much more than after the smallest home the peak may be after the largest: a tenth, for the allocator's moods."""

SETTLE_SECONDS: Final = 3.0
SNAPSHOT_TIMEOUT_SECONDS: Final = 300.0
REPOSITORY: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Memory:
    """Of one process, in MB: what it holds now, and the most it ever held."""

    now: float
    peak: float


@dataclass(frozen=True, slots=True)
class Place:
    """Where everything is."""

    folder: Path
    servers: Servers
    sshd: ThrowawaySshd
    homes: Path
    root: Path


async def measure(options: Options) -> Found:
    """Start services and weigh them."""
    sizes = (500, 2_000) if options.quick else SIZES
    idle: dict[str, Samples] = {"scheduler": Samples(), "snapshotter": Samples()}
    after: list[Memory] = []
    async with AsyncExitStack() as stack:
        place = await _place(stack, options)
        for files in sizes:
            options.say(f"Making a home of {files:,} files ...")
            await asyncio.to_thread(build_home, place.homes / str(files), files)
            options.say("Two snapshots of it ...")
            after.append(await _weigh(place, files, idle))
    rows = [below(f"{name}, idle", samples, IDLE_MB, unit=" MB", digits=1) for name, samples in idle.items()]
    rows += [_row(files, memory, after[0]) for files, memory in zip(sizes, after, strict=True)]
    notes = [
        "resident memory of the process itself, shared libraries included (Rss of smaps_rollup; the peak is VmHWM)",
        f"a fresh snapshotter for each size; {len(sizes)} starts of each service",
    ]
    return Found("memory: real services on embedded servers", rows, notes)


def _row(files: int, memory: Memory, smallest: Memory) -> Row:
    what = f"snapshotter, peak over two snapshots of {files:,} files"
    if memory is smallest:
        return Row(what, f"{memory.peak:.1f} MB", f"{memory.now:.1f} MB afterwards")
    ratio = memory.peak / smallest.peak
    shown = f"{memory.peak:.1f} MB", f"{memory.now:.1f} MB afterwards", f"{ratio:.2f}"
    return Row(what, *shown, f"<= {GROWTH:g} of the first", ratio <= GROWTH)


async def _place(stack: AsyncExitStack, options: Options) -> Place:
    drive = await stack.enter_async_context(fresh_drive(options.folder, "drive"))
    homes, root = drive.path / "homes", drive.path / "store"
    homes.mkdir()
    root.mkdir()
    Store.create(root, StoreName("main"), uuid.uuid4()).close()
    sshd = await stack.enter_async_context(ThrowawaySshd(options.folder / "sshd"))
    settings = settings_of(options.folder, (HostSettings(name=HostName("any")),))
    running = await stack.enter_async_context(servers(options.folder, settings))
    return Place(options.folder, running, sshd, homes, root)


async def _weigh(place: Place, files: int, idle: dict[str, Samples]) -> Memory:
    """Two snapshots of a home by a fresh snapshotter; returns its memory afterwards."""
    host = HostName(f"home-{files}")
    environ = await asyncio.to_thread(_configure, place, host, files)
    log = EventLog(place.servers.dsn)
    try:
        async with _service("snapshotter", environ) as snapshotter:
            await asyncio.sleep(SETTLE_SECONDS)
            idle["snapshotter"].add(memory_of(snapshotter.pid).now)
            # The scheduler finds the newest slot due as soon as it runs.
            async with _service("scheduler", environ) as scheduler:
                await _completed(log, host, 1, [snapshotter, scheduler])
                await _trigger(place, host)
                await _completed(log, host, 2, [snapshotter, scheduler])
                await asyncio.sleep(SETTLE_SECONDS)
                idle["scheduler"].add(memory_of(scheduler.pid).now)
                return memory_of(snapshotter.pid)
    finally:
        await log.close()


def _configure(place: Place, host: HostName, files: int) -> dict[str, str]:
    known_hosts, env, toml = (place.folder / f"{host}.{kind}" for kind in ("known_hosts", "env", "toml"))
    known_hosts.write_text(place.sshd.known_hosts_line(host), encoding="ascii")
    env.write_text(f"BACKUP_ROOT={place.root}\nBACKUP_DATA={place.folder / 'data'}\nHOSTS={host}\n", encoding="utf-8")
    toml.write_text(
        f"[hosts.{host}]\n"
        f'address = "127.0.0.1"\nport = {place.sshd.port}\nuser = "{place.sshd.user}"\n'
        f'key = "{place.sshd.client_key}"\nknown_hosts = "{known_hosts}"\n'
        f'paths = ["{place.homes}/./{files}"]\n',
        encoding="utf-8",
    )
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "BACKUP_ENV_FILE": str(env),
        "BACKUP_TOML_FILE": str(toml),
        "NATS_URL": place.servers.nats_url,
        "POSTGRES_DSN": place.servers.dsn,
    }


@asynccontextmanager
async def _service(name: str, environ: dict[str, str]) -> AsyncIterator[process.Running]:
    argv = process.dying_with_parent([sys.executable, "-m", f"services.{name}"])
    async with await process.start(argv, env=environ, cwd=REPOSITORY, stdout=asyncio.subprocess.DEVNULL) as running:
        yield running
        await running.end(grace_seconds=15)


async def _trigger(place: Place, host: HostName) -> None:
    bus = await Bus.connect(place.servers.nats_url, "bench")
    try:
        await bus.publish_trigger(Trigger(hosts=(host,), by="bench"))
    finally:
        await bus.close()


async def _completed(log: EventLog, host: HostName, count: int, services: list[process.Running]) -> None:
    """Wait until so many snapshots of the host are complete. Raises BenchmarkBroken."""
    async with asyncio.timeout(SNAPSHOT_TIMEOUT_SECONDS):
        while True:
            events = [recorded.event for recorded in await log.read_stream(host_stream(host))]
            if sum(isinstance(event, SnapshotCompleted) for event in events) >= count:
                return
            ended = [bytes(service.stderr).decode() for service in services if service.returncode is not None]
            failed = [repr(event) for event in events if isinstance(event, SnapshotFailed)]
            if ended or failed:
                raise BenchmarkBroken(f"The snapshot of {host} does not come: {(failed + ended)[0]}")
            await asyncio.sleep(0.2)


def memory_of(pid: int) -> Memory:
    """What a process holds. Raises OSError when there is none."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return Memory(_kib("Rss", rollup) / 1024, _kib("VmHWM", status) / 1024)


def _kib(word: str, text: str) -> int:
    found = re.search(rf"^{word}:\s+(\d+) kB$", text, re.MULTILINE)
    if found is None:
        raise BenchmarkBroken(f"The kernel does not tell {word}.")
    return int(found[1])
