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
from random import Random
from typing import Any, Final
from unittest.mock import patch

import services.archiver.service
import services.retention.service
import services.scheduler.service
import services.snapshotter.service
from shared.adapters.jetstream import BusUnavailable
from shared.config import Settings
from shared.domain.errors import BackupManagerError, LogUnavailable
from shared.domain.events import Recorded
from shared.domain.projection import State, evolve
from shared.runtime.service import first_of
from tests.faults.simulation.bus import BusServer, FakeBus
from tests.faults.simulation.disk import Disks
from tests.faults.simulation.eventlog import FakeLog, LogServer
from tests.faults.simulation.fake_os import FakeOs
from tests.faults.simulation.installed import replacements
from tests.faults.simulation.loop import Killed, Process, SimLoop, end, here, start
from tests.faults.simulation.parts import Source
from tests.faults.simulation.settings import ACK_WAIT_SECONDS, first_settings
from tests.faults.simulation.watch import Watch

BEGAN: Final = datetime(2026, 3, 1, tzinfo=UTC)
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
        self.random = Random(seed)  # noqa: S311  # it has to be the same every time
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
