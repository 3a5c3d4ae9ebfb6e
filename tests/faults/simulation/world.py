"""The whole system in one loop: every service as it is wired in the product, on a simulated machine."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os as real_os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, Final
from unittest.mock import patch
from uuid import UUID

import msgspec

import services.archiver.archive
import services.archiver.golden
import services.archiver.handler
import services.archiver.service
import services.cli.trash
import services.retention.facts
import services.retention.handler
import services.retention.purge
import services.retention.service
import services.scheduler.service
import services.snapshotter.admission
import services.snapshotter.handler
import services.snapshotter.run
import services.snapshotter.service
import services.snapshotter.upkeep
import shared.adapters.anchors
import shared.adapters.beneath
import shared.adapters.filesystem
import shared.adapters.held_locks
import shared.adapters.markers
import shared.adapters.restore_points
import shared.adapters.store
import shared.adapters.trash
import shared.runtime.cancel
import shared.runtime.outbox
import shared.runtime.rejected
import shared.runtime.worker
import shared.runtime.workplace
from shared.adapters.jetstream import BusUnavailable
from shared.adapters.store import Store
from shared.config import BusTiming, HostSettings, Settings
from shared.domain.errors import BackupManagerError, LogUnavailable
from shared.domain.events import Recorded
from shared.domain.names import HostName, StoreName
from shared.domain.projection import State, evolve
from shared.runtime.service import first_of
from tests.faults.simulation.bus import BusServer, FakeBus
from tests.faults.simulation.disk import Disks, FakeFcntl, FakeLibc, FakeOs, FakePath
from tests.faults.simulation.eventlog import FakeLog, LogServer
from tests.faults.simulation.loop import Killed, Process, SimLoop, end, here, start
from tests.faults.simulation.parts import ABILITY, FakeOpener, FakeSpool, Parts, Source
from tests.faults.simulation.watch import Watch

BEGAN: Final = datetime(2026, 3, 1, tzinfo=UTC)
HOSTS: Final = 5
STORE: Final = StoreName("main")
ACK_WAIT_SECONDS: Final = 240
SERVICES: Final[dict[str, Callable[..., Any]]] = {
    "snapshotter": services.snapshotter.service.serve,
    "archiver": services.archiver.service.serve,
    "retention": services.retention.service.serve,
    "scheduler": services.scheduler.service.serve,
}
LOST_ANSWERS: Final = 0.001
"""So many answers of bus and log are lost on their way back while faults happen."""


class SimProcess(Process):
    """A process with the settings it was started with."""

    def __init__(self, name: str, number: int, settings: Settings) -> None:
        super().__init__(name, number)
        self.settings = settings
        self.cut_off = False
        self.stop = asyncio.Event()


class FakeClock:
    """The machine's clock, which may be wrong."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> datetime:
        here().check()
        return self._world.wall()

    def is_synchronised(self) -> bool:
        return self._world.synchronised

    def unix_ms(self) -> int:
        return int(self._world.wall().timestamp() * 1000)

    def monotonic(self) -> float:
        return self._world.loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))
        await here().gate()


@dataclass
class Report:
    """What came of a simulation. `trace` is a hash over everything that happened, in order."""

    seed: int
    trace: str
    wrong: list[str]
    counts: Counter[str]
    faults: Counter[str]


class World:
    """One machine, its drives, its bus and its log."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.loop = SimLoop(self.random)
        self.offset = timedelta()
        self.synchronised = True
        self.lossy = False
        self.spooled = 0
        self.log_back = float("-inf")
        self._numbers = count(100)
        self._trace = hashlib.sha256()
        self.journal: list[str] = []
        self.found: list[str] = []
        self.faults: Counter[str] = Counter()
        self.disks = Disks()
        self.os = FakeOs(self.disks)
        self.main = self.disks.new_drive()
        self.disks.mounted = self.main
        self.logs = LogServer(lambda: round(self.wall().timestamp() * 1_000_000))
        self.bus = BusServer(self.wall, self.loop.time, self.random, ACK_WAIT_SECONDS)
        self.settings = first_settings(self.random)
        self.sources = {host.name: Source(host.name) for host in self.settings.hosts}
        self.processes: dict[int, SimProcess] = {}
        self.root = self.process("root")
        self.watch = Watch(self)
        self.state = State()
        self.logs.heard = self._heard
        self.disks.step = self.step
        self.disks.moved = self.watch.moved
        self.disks.unlinked = self.watch.unlinked
        self.loop.set_exception_handler(self._unheard)

    def _heard(self, recorded: Recorded) -> None:
        evolve(self.state, recorded)
        self.watch.heard(recorded)

    # Time and chance.

    def wall(self) -> datetime:
        """What the machine's clock says."""
        return BEGAN + timedelta(seconds=self.loop.time()) + self.offset

    async def pause(self, seconds: float) -> None:
        """Something takes up to so long."""
        await asyncio.sleep(self.random.random() * seconds)
        await here().gate()

    def trace(self, *words: str) -> None:
        """Note that something happened."""
        line = f"{self.loop.time():.6f} {' '.join(words)}"
        self._trace.update(line.encode())
        if "SIM_JOURNAL" in real_os.environ:
            self.journal.append(line)

    def wrong(self, sentence: str) -> None:
        """Note that a promise is broken."""
        self.trace("WRONG", sentence)
        if len(self.found) < 20:
            self.found.append(f"day {self.loop.time() / 86400:.3f}: {sentence}")

    def report(self) -> Report:
        """What came of it."""
        return Report(self.seed, self._trace.hexdigest(), self.found, self.watch.counts, self.faults)

    def _unheard(self, _loop: object, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Killed | asyncio.CancelledError):
            self.wrong(f"nobody heard of this: {context.get('message')} {error!r}")

    def log_was_away(self) -> bool:
        """Whether the log was away not long ago."""
        return self.logs.away or self.loop.time() - self.log_back < 43_200

    # Processes.

    def process(self, name: str) -> SimProcess:
        """A new process."""
        number = next(self._numbers)
        made = self.processes[number] = SimProcess(name, number, self.settings)
        return made

    def step(self, process: Process, what: str, name: str) -> None:
        """A process is about to change a drive: that may be its last moment."""
        process.check()
        if process.step_limit is not None:
            process.step_limit -= 1
            if process.step_limit <= 0:
                self.trace("dies at", what, name)
                self.kill(process)
                raise Killed

    def kill(self, process: Process) -> None:
        """kill -9. What it had started goes on for a moment and holds its locks."""
        if process.dead:
            return
        self.trace("kill", repr(process))
        orphans = self.disks.close_all(process, process.children if self.random.random() < 0.5 else {})
        for descriptor in orphans:
            self.loop.call_later(self.random.random() * 120, self.disks.close, descriptor)
        end(self.loop, process)
        self.processes.pop(process.number, None)

    async def keep_alive(self, service: str) -> None:
        """What systemd does: start a service, and start it again when it ended."""
        while True:
            process = self.process(service)
            task = start(self.loop, process, partial(SERVICES[service], process.settings, process.stop))
            error = (await asyncio.gather(task, return_exceptions=True))[0]
            self._judge_end(process, error)
            self.kill(process)
            await asyncio.sleep(1 + self.random.random() * 60)

    def _judge_end(self, process: Process, error: Any) -> None:
        while isinstance(error, BaseExceptionGroup):
            error = first_of(error)
        if error is None or isinstance(error, BackupManagerError | Killed) or process.dead:
            return
        self.wrong(f"{process} ended with {error!r}")

    def alive(self, name: str = "") -> list[SimProcess]:
        """The services that run."""
        return [
            process for process in self.processes.values() if process.name in SERVICES and process.name.startswith(name)
        ]

    # What processes use.

    def log_of(self, process: SimProcess) -> FakeLog:
        """A connection to the log."""

        async def passage() -> None:
            await self._delay(process)
            if self.lossy and self.random.random() < LOST_ANSWERS:
                raise LogUnavailable("The event log cannot be reached: simulated.")

        return FakeLog(self.logs, passage)

    def bus_of(self, process: SimProcess) -> FakeBus:
        """A connection to the bus."""

        async def passage() -> None:
            await self._delay(process)
            if process.cut_off or (self.lossy and self.random.random() < LOST_ANSWERS):
                raise BusUnavailable("The bus does not answer: simulated.")

        def enter(work: Any) -> None:
            if process.dead:
                work.close()
            else:
                start(self.loop, process, lambda: work)

        return FakeBus(self.bus, passage, enter)

    async def _delay(self, process: SimProcess) -> None:
        await process.gate()
        if self.random.random() < 0.3:
            await asyncio.sleep(self.random.random() * 0.2)
            await process.gate()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Have the product run here instead of on this machine."""
        with ExitStack() as stack:
            for module, values in replacements(self).items():
                for name, value in values.items():
                    stack.enter_context(patch.object(module, name, value))
            heard = _Defects(self)
            roots = [logging.getLogger(name) for name in ("services", "shared")]
            for root in roots:
                level, root.propagate = root.level, False
                root.setLevel(logging.ERROR)
                root.addHandler(heard)
                stack.callback(root.removeHandler, heard)
                stack.callback(root.setLevel, level)
                stack.callback(setattr, root, "propagate", True)
            yield


class _Defects(logging.Handler):
    """An exception that nobody expected is a defect of the product."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and not isinstance(record.exc_info[1], OSError):
            self._world.wrong(f"{record.getMessage()} {record.exc_info[1]!r}")


def replacements(world: World) -> dict[Any, dict[str, Any]]:
    """What of the product is replaced: clock, chance, drives, bus, log, and the programs that it runs."""
    parts, clock = Parts(world), FakeClock(world)
    secrets = SimpleNamespace(randbits=world.random.getrandbits)
    os, fcntl = world.os, FakeFcntl(world.disks)
    FakePath.os, FakeOpener.os, FakeSpool.world = os, os, world

    async def connect(_url: str, _name: str) -> FakeBus:
        process: Any = here()
        bus = world.bus_of(process)
        await bus.ask()
        return bus

    client = {
        "EventLog": lambda _dsn: world.log_of(here()),  # type: ignore[arg-type]
        "Bus": SimpleNamespace(connect=connect),
        "SystemClock": lambda: clock,
    }

    async def ability(**_: object) -> Any:
        return ABILITY

    quiet = SimpleNamespace(node=lambda: "machine")
    with_os: dict[Any, dict[str, Any]] = {
        shared.adapters.anchors: {}, shared.adapters.beneath: {}, shared.adapters.held_locks: {},
        shared.adapters.markers: {}, shared.adapters.restore_points: {}, shared.adapters.store: {},
        shared.adapters.filesystem: {"fcntl": fcntl, "ctypes": FakeLibc(os), "Opener": FakeOpener},
        shared.adapters.trash: {"fcntl": fcntl},
        services.archiver.archive: {"pack": parts.pack, "read_back": parts.read_back},
        services.archiver.golden: {"link_tree": parts.link_tree},
        services.retention.facts: {"held_places": lambda: held_places(world)},
        shared.runtime.workplace: {**client, "platform": quiet},
    }  # fmt: skip
    return {
        **{module: {"os": os, **values} for module, values in with_os.items()},
        services.archiver.handler: {"secrets": secrets, "LOG_RETRY_SECONDS": 600.0},
        services.retention.handler: {"secrets": secrets, "LOG_RETRY_SECONDS": 600.0},
        services.retention.purge: {
            "remove_tree": parts.remove_tree,
            "OthersSync": lambda _: bool,
            "JobsUnderWay": lambda _: bool,
        },
        services.scheduler.service: {
            **client,
            "secrets": secrets,
            "PASS_SECONDS": 1200.0,
            "LOG_RETRY_SECONDS": 120.0,
            "WISH_RETRY_SECONDS": 60.0,
        },
        services.snapshotter.admission: {"estimate": parts.estimate},
        services.snapshotter.handler: {
            "secrets": secrets,
            "connected": parts.connected,
            "dry_run": SimpleNamespace(try_host=parts.try_host),
        },
        services.snapshotter.run: {
            "transfer": parts.transfer,
            "lists": SimpleNamespace(sort_list=parts.sort_list, write_lists=parts.write_lists),
            "WRITE_BACK_SECONDS": 600.0,
        },
        services.snapshotter.service: {"find_ability": ability},
        services.snapshotter.upkeep: {"LOOK_SECONDS": 6 * 3600.0},
        services.cli.trash: {"session": SimpleNamespace(event_log=_session_log(world))},
        shared.runtime.cancel: {"LOOK_AGAIN_SECONDS": 3600.0},
        shared.runtime.outbox: {"Spool": FakeSpool, "RELAY_SECONDS": 3600.0},
        shared.runtime.worker: {"BUSY_RETRY_SECONDS": 150.0, "ERROR_RETRY_SECONDS": 300.0},
        shared.runtime.rejected: {"SystemClock": lambda: clock, "secrets": secrets},
    }


def _session_log(world: World) -> Any:
    @contextmanager
    def nothing() -> Iterator[None]:
        yield

    class Session:
        def __init__(self, _settings: Settings) -> None:
            self._scope = nothing()

        async def __aenter__(self) -> FakeLog:
            return world.log_of(here())  # type: ignore[arg-type]

        async def __aexit__(self, *_: object) -> None:
            return

    return Session


def held_places(world: World) -> frozenset[str]:
    """What /proc/locks tells."""
    return frozenset(
        f"{opened.drive.device >> 8:02x}:{opened.drive.device:02x}:{opened.inode.number}"
        for opened in world.disks.opened.values()
        if opened.inode.locks
    )


def first_settings(random: Random) -> Settings:
    """An installation of five hosts. What is kept is short, so that a month sees a lot of removals."""
    hosts = tuple(
        HostSettings(name=HostName(f"h{number}"), snapshot_interval_hours=random.choice((8, 12, 24, 24)))
        for number in range(HOSTS)
    )
    return Settings(
        backup_root=FakePath("/drive"),  # type: ignore[arg-type]  # as good as one
        data_dir=Path("/data"),
        store=STORE,
        hosts=hosts,
        tar_interval_hours=random.choice((12, 24, 24)),
        hourly_retention_hours=random.choice((24, 36, 48, 72)),
        daily_retention_days=random.randint(2, 6),
        retention_months=1,
        tar_retention_days=random.randint(1, 3),
        trash_hours=random.randint(6, 24),
        nats_url="simulated",
        postgres_dsn="simulated",
        timing=BusTiming(
            ack_wait_seconds=ACK_WAIT_SECONDS,
            heartbeat_seconds=60.0,
            offline_retry_seconds=1800,
            retry_seconds=120,
            max_attempts=3,
        ),
    )


def a_store(world: World) -> None:
    """Make the drive a store."""
    Store.create(world.settings.backup_root, STORE, UUID(int=world.random.getrandbits(128))).close()


def changed(settings: Settings, **values: Any) -> Settings:
    """Other settings."""
    return msgspec.structs.replace(settings, **values)
