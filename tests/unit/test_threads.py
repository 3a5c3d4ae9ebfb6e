"""Threads cannot be stopped, so a cancelled caller waits for them."""

from __future__ import annotations

import asyncio
import threading

import pytest

from shared.adapters.threads import in_thread, to_the_end


class Gate:
    """Work that begins, then waits to be let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.ended = False

    def work(self) -> str:
        self.begun.set()
        assert self.go.wait(10)
        self.ended = True
        return "done"


async def begun(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.begun.wait, 10)


async def let_go_soon(gate: Gate, task: asyncio.Task[str]) -> None:
    """Cancel twice, see that the caller still waits, then let the thread end."""
    await begun(gate)
    for _ in range(2):
        task.cancel()
        await asyncio.wait({task}, timeout=0.05)
        assert not task.done()
    gate.go.set()


async def test_a_cancelled_caller_waits_for_its_thread_and_is_cancelled_then() -> None:
    gate = Gate()
    task = asyncio.create_task(in_thread(gate.work))
    await let_go_soon(gate, task)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.ended


async def test_what_is_past_stopping_returns_its_result_although_it_was_cancelled() -> None:
    gate = Gate()
    task = asyncio.create_task(to_the_end(gate.work))
    await let_go_soon(gate, task)
    assert await task == "done"


async def test_what_a_thread_raises_reaches_the_caller() -> None:
    def fail() -> None:
        raise OSError("the drive is gone")

    with pytest.raises(OSError, match="the drive is gone"):
        await in_thread(fail)
    with pytest.raises(OSError, match="the drive is gone"):
        await to_the_end(fail)
