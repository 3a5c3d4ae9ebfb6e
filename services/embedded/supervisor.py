"""Keeps the services of one installation alive, as children of one process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from shared.adapters import process
from shared.domain.errors import BackupManagerError

FIRST_DELAY_SECONDS: Final = 0.5
LONGEST_DELAY_SECONDS: Final = 30.0
HEALTHY_AFTER_SECONDS: Final = 60.0
INHERITED_STDOUT: Final = 1
INHERITED_STDERR: Final = 2

# Restarting cannot help: the child's own word for it, and setpriv's for a program that cannot be executed.
HOPELESS: Final = {
    os.EX_CONFIG: "it says that its configuration is wrong",
    126: "its program cannot be executed",
    127: "its program does not exist",
}

log = logging.getLogger(__name__)


class ChildMisconfigured(BackupManagerError):
    """A child said that starting it again is useless; `name` is which one."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"The service {name} cannot run: {why}.", "Its last lines of output say what to correct.")
        self.name = name


class Clock(Protocol):
    """What the supervisor needs to know of time."""

    def monotonic(self) -> float:
        """Seconds that only go forward."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


@dataclass(frozen=True, slots=True)
class Child:
    """A service to keep alive: its command and its whole environment."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]


def next_delay_seconds(last_delay_seconds: float, alive_seconds: float) -> float:
    """How long to wait before a restart: doubling up to 30 s, from 0.5 s again after a minute of health."""
    if last_delay_seconds == 0 or alive_seconds >= HEALTHY_AFTER_SECONDS:
        return FIRST_DELAY_SECONDS
    return min(2 * last_delay_seconds, LONGEST_DELAY_SECONDS)


class Supervisor:
    """Starts its children, and starts again whichever ends, until it is told to stop.

    The kernel sends them SIGTERM when this process dies, so that even `kill -9` leaves nothing behind. Their
    output goes to ours, or to `output_fd`.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        clock: Clock,
        grace_seconds: float = 20.0,
        output_fd: int | None = None,
    ) -> None:
        self._children = tuple(children)
        self._clock = clock
        self._grace_seconds = grace_seconds
        self._stdout = INHERITED_STDOUT if output_fd is None else output_fd
        self._stderr = INHERITED_STDERR if output_fd is None else output_fd
        self._running: dict[str, process.Running] = {}

    def pid(self, name: str) -> int | None:
        """The process number of a child; None while it waits to be started again."""
        running = self._running.get(name)
        return None if running is None else running.pid

    async def run(self, stop: asyncio.Event) -> None:
        """Keep all children alive until `stop` is set; then SIGTERM for all, and SIGKILL after the grace time.

        Raises ChildMisconfigured when a child says that a restart is useless, and ToolMissing; no child is
        left in any case, not even when it is cancelled.
        """
        stopping = asyncio.create_task(stop.wait(), name="supervisor: stop")
        keepers = [asyncio.create_task(self._keep(child), name=f"supervisor: {child.name}") for child in self._children]
        tasks = [stopping, *keepers]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    async def _keep(self, child: Child) -> None:
        delay_seconds = 0.0
        while True:
            started = self._clock.monotonic()
            code = await self._run_once(child)
            if code in HOPELESS:
                raise ChildMisconfigured(child.name, HOPELESS[code])
            delay_seconds = next_delay_seconds(delay_seconds, self._clock.monotonic() - started)
            log.warning("%s ended with exit code %d, starting it again in %g s", child.name, code, delay_seconds)
            await self._clock.sleep(delay_seconds)

    async def _run_once(self, child: Child) -> int:
        """Start a child and wait for its end; when cancelled, end it. Returns its exit code."""
        argv = process.dying_with_parent(child.argv, signal_name="TERM")
        running = await process.start(argv, env=child.env, stdout=self._stdout, stderr=self._stderr)
        self._running[child.name] = running
        try:
            return await running.wait()
        finally:
            await running.end(grace_seconds=self._grace_seconds)
            with contextlib.suppress(KeyError):
                del self._running[child.name]
