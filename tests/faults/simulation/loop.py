"""An event loop whose time jumps to the next timer, and processes that live in it and can be killed.

Nothing here waits for anything real, so the same seed gives the same order of everything. Work that the product gives
to a thread is done in the loop, a moment later.
"""

from __future__ import annotations

import asyncio
import contextvars
import selectors
from collections.abc import Callable, Coroutine
from itertools import count
from random import Random
from typing import Any, Final, TypeVar

_Result = TypeVar("_Result")

PROCESS: Final[contextvars.ContextVar[Process | None]] = contextvars.ContextVar("process", default=None)

MOST_ROUNDS: Final = 500
SLOWEST_THREAD_SECONDS: Final = 0.2


class Killed(BaseException):
    """The process is dead: nothing it still tries happens. No handler of the product may catch it."""


class Process:
    """A simulated process: its tasks, and whether it is alive. `step_limit` kills it at its n-th change of a disk."""

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.dead = False
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.running = asyncio.Event()
        self.running.set()
        self.step_limit: int | None = None
        self.children: dict[int, None] = {}
        """Descriptors that a child of this process holds as well; it outlives its parent for a while."""

    def __repr__(self) -> str:
        return f"{self.name}#{self.number}"

    def check(self) -> None:
        """Raises Killed when this process is dead."""
        if self.dead:
            raise Killed

    async def gate(self) -> None:
        """Wait while the process is stopped (SIGSTOP)."""
        self.check()
        await self.running.wait()
        self.check()


def here() -> Process:
    """The process whose code this is."""
    process = PROCESS.get()
    assert process is not None, "code of the product ran outside of every simulated process"
    return process


class SimTask(asyncio.Task[_Result]):
    """A task with a number: sets of tasks are walked in the same order every time."""

    _numbers = count(1)

    def __init__(self, coro: Coroutine[Any, Any, _Result], **options: Any) -> None:
        self._number = next(SimTask._numbers)
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class _Jump(selectors.SelectSelector):
    """Waits for nothing: it tells the loop how far to jump."""

    def __init__(self) -> None:
        super().__init__()
        self.loop: SimLoop | None = None

    def select(self, timeout: float | None = None) -> list[Any]:
        assert self.loop is not None
        assert timeout is not None, "everybody waits and nothing will ever happen"
        self.loop.jump(timeout)
        return []


class SimLoop(asyncio.SelectorEventLoop):
    """The loop. `random` decides how long a thread takes."""

    def __init__(self, random: Random) -> None:
        self._seconds = 0.0
        selector = _Jump()
        super().__init__(selector)
        selector.loop = self
        self._clock_resolution = 1e-6
        self._random = random
        SimTask._numbers = count(1)
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        return self._seconds

    def jump(self, seconds: float) -> None:
        """Let time pass."""
        self._seconds += max(0.0, seconds)

    def _make_task(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> SimTask[Any]:
        task = SimTask(coro, loop=loop, **options)
        if (process := PROCESS.get()) is not None:
            process.tasks[task] = None
            task.add_done_callback(lambda done: process.tasks.pop(done, None))
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """What would be a thread runs here, a moment later and all at once."""
        process, done = here(), self.create_future()

        def work() -> None:
            if done.done():
                return
            if process.dead:
                done.set_exception(Killed())
            elif not process.running.is_set():
                self.call_later(1.0, work)
            else:
                _into(done, func, args)

        self.call_later(self._random.random() * SLOWEST_THREAD_SECONDS, work)
        return done


def _into(done: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        result = func(*args)
    except BaseException as error:  # noqa: BLE001  # whatever a thread raises is its caller's
        if not done.done():  # it died in there, and nobody waits any more
            done.set_exception(error)
    else:
        if not done.done():
            done.set_result(result)


def start(loop: SimLoop, process: Process, work: Callable[[], Coroutine[Any, Any, _Result]]) -> asyncio.Task[_Result]:
    """Begin the work of a process."""
    context = contextvars.copy_context()
    context.run(PROCESS.set, process)
    return context.run(lambda: loop.create_task(work()))


def end(loop: SimLoop, process: Process) -> None:
    """Kill a process: its tasks end without having any effect any more."""
    process.dead = True
    process.running.set()
    rounds = count()

    def again() -> None:
        for task in list(process.tasks):
            task.cancel()
        if process.tasks:
            assert next(rounds) < MOST_ROUNDS, f"{process} does not end: {list(process.tasks)}"
            loop.call_later(0.01, again)

    again()
