"""The supervisor, with real processes: who is started again, who is not, and what is left behind (nothing).

Every child writes to one pipe. That pipe ends only when the last process that holds it has ended, so its end
proves that nothing was left, and no test has to look for processes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.embedded.supervisor import Child, ChildMisconfigured, Supervisor, next_delay_seconds
from shared.adapters import process
from shared.adapters.clock import SystemClock

REPOSITORY = Path(__file__).parents[2]
BOUND_SECONDS = 30

# Says its name and number once SIGTERM can no longer be missed, and that it was sent.
SERVICE = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
os.write(1, b"%s %d\\n" % (sys.argv[1].encode(), os.getpid()))
signal.sigwait({signal.SIGTERM})
os.write(1, b"%s stopped\\n" % sys.argv[1].encode())
"""
DEAF = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, b"%s %d\\n" % (sys.argv[1].encode(), os.getpid()))
while True:
    signal.pause()
"""
HOLDER = f"""
import asyncio, sys
from services.embedded.supervisor import Child, Supervisor
from shared.adapters.clock import SystemClock
children = [Child(name, (sys.executable, "-c", {SERVICE!r}, name), {{}}) for name in ("one", "two")]
asyncio.run(Supervisor(children, clock=SystemClock()).run(asyncio.Event()))
"""


@dataclass
class Output:
    """What the children wrote, and the descriptor that they write to."""

    lines: asyncio.StreamReader
    descriptor: int

    async def line(self) -> list[str]:
        """The next line, in words; an empty list at the end."""
        return (await asyncio.wait_for(self.lines.readline(), BOUND_SECONDS)).decode().split()

    async def pids(self, count: int) -> dict[str, int]:
        """The numbers of the next children that say they are ready."""
        return {name: int(pid) for name, pid in [await self.line() for _ in range(count)]}

    def close(self) -> None:
        """Close our own copy, so that the end of the pipe can be seen."""
        with contextlib.suppress(OSError):
            os.close(self.descriptor)


@pytest.fixture
async def output() -> AsyncIterator[Output]:
    reading, writing = os.pipe()
    lines = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(reading, "rb")
    )
    everything = Output(lines, writing)
    yield everything
    everything.close()
    transport.close()


def child(name: str, code: str = SERVICE, env: Mapping[str, str] | None = None) -> Child:
    return Child(name, (sys.executable, "-c", code, name), env or {})


@asynccontextmanager
async def running(supervisor: Supervisor) -> AsyncIterator[asyncio.Event]:
    """Run a supervisor for as long as the block lasts, and then stop it."""
    stop = asyncio.Event()
    task = asyncio.create_task(supervisor.run(stop))
    try:
        yield stop
    finally:
        stop.set()
        await asyncio.wait_for(task, BOUND_SECONDS)


async def test_all_children_are_started_and_stopped_cleanly(output: Output) -> None:
    supervisor = Supervisor([child("one"), child("two")], clock=SystemClock(), output_fd=output.descriptor)
    async with running(supervisor):
        pids = await output.pids(2)
        assert pids == {"one": supervisor.pid("one"), "two": supervisor.pid("two")}
    assert (supervisor.pid("one"), supervisor.pid("two"), supervisor.pid("three")) == (None, None, None)
    output.close()
    assert sorted([await output.line(), await output.line()]) == [["one", "stopped"], ["two", "stopped"]]
    assert await output.line() == []


async def test_a_killed_child_is_started_again_and_the_others_are_left_alone(output: Output) -> None:
    supervisor = Supervisor([child("one"), child("two")], clock=SystemClock(), output_fd=output.descriptor)
    async with running(supervisor):
        before = await output.pids(2)
        os.kill(before["one"], signal.SIGKILL)
        again = await output.pids(1)
        assert set(again) == {"one"}
        assert again["one"] not in before.values()
        assert supervisor.pid("one") == again["one"]
        assert supervisor.pid("two") == before["two"]


async def test_a_child_that_ends_by_itself_is_started_again(output: Output) -> None:
    brief = child("brief", "import os; os.write(1, b'brief %d\\n' % os.getpid())")
    supervisor = Supervisor([brief], clock=SystemClock(), output_fd=output.descriptor)
    async with running(supervisor):
        first, second = await output.pids(1), await output.pids(1)
        assert first != second


def test_the_wait_doubles_up_to_half_a_minute_and_starts_anew_after_a_healthy_minute() -> None:
    waits, last = [], 0.0
    for _ in range(8):
        last = next_delay_seconds(last, alive_seconds=1)
        waits.append(last)
    assert waits == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert next_delay_seconds(30, alive_seconds=59.9) == 30
    assert next_delay_seconds(30, alive_seconds=60) == 0.5


async def test_a_child_that_ignores_sigterm_is_killed_after_the_grace_time(output: Output) -> None:
    supervisor = Supervisor([child("deaf", DEAF)], clock=SystemClock(), grace_seconds=0.2, output_fd=output.descriptor)
    async with running(supervisor):
        assert await output.pids(1)
    output.close()
    assert await output.line() == []


async def test_a_misconfigured_child_stops_everything_and_is_named(output: Output) -> None:
    wrong = child("wrong", f"import sys; sys.exit({os.EX_CONFIG})")
    supervisor = Supervisor([child("fine"), wrong], clock=SystemClock(), output_fd=output.descriptor)
    with pytest.raises(ChildMisconfigured, match="service wrong cannot run: it says") as caught:
        await asyncio.wait_for(supervisor.run(asyncio.Event()), BOUND_SECONDS)
    assert caught.value.name == "wrong"
    output.close()
    while words := await output.line():
        assert words[0] == "fine"


async def test_a_program_that_does_not_exist_is_named_and_not_tried_for_ever(output: Output) -> None:
    missing = Child("ghost", ("/nonexistent/ghost",), {})
    with pytest.raises(ChildMisconfigured, match="service ghost cannot run: its program does not exist"):
        await asyncio.wait_for(
            Supervisor([missing], clock=SystemClock(), output_fd=output.descriptor).run(asyncio.Event()),
            BOUND_SECONDS,
        )


async def test_a_child_gets_the_environment_it_was_given_and_nothing_else(output: Output) -> None:
    code = "import os, signal; os.write(1, b'%r\\n' % sorted(os.environ.items())); signal.pause()"
    only = child("only", code, {"LC_ALL": "C", "BM_ONLY": "this"})
    async with running(Supervisor([only], clock=SystemClock(), output_fd=output.descriptor)):
        assert "".join(await output.line()) == "[('BM_ONLY','this'),('LC_ALL','C')]"


async def test_a_cancelled_supervisor_leaves_nothing_behind(output: Output) -> None:
    supervisor = Supervisor([child("one")], clock=SystemClock(), output_fd=output.descriptor)
    task = asyncio.create_task(supervisor.run(asyncio.Event()))
    await output.pids(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, BOUND_SECONDS)
    output.close()
    assert await output.line() == ["one", "stopped"]
    assert await output.line() == []


async def test_stopping_does_not_wait_for_a_pending_restart(output: Output) -> None:
    class Endless(SystemClock):
        """A clock on which no wait ever ends."""

        async def sleep(self, seconds: float) -> None:
            waiting.set()
            await asyncio.Event().wait()

    waiting = asyncio.Event()
    supervisor = Supervisor([child("brief", "pass")], clock=Endless(), output_fd=output.descriptor)
    async with running(supervisor):
        await asyncio.wait_for(waiting.wait(), BOUND_SECONDS)
        assert supervisor.pid("brief") is None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_killed_supervisor_leaves_no_child_behind(output: Output, number: int) -> None:
    argv = [sys.executable, "-c", HOLDER]
    async with await process.start(argv, cwd=REPOSITORY, stdout=output.descriptor) as holder:
        output.close()
        assert set(await output.pids(2)) == {"one", "two"}
        os.kill(holder.pid, number)
        assert await holder.wait() == -number
        assert sorted([await output.line(), await output.line()]) == [["one", "stopped"], ["two", "stopped"]]
        assert await output.line() == []
