"""Which milestones a job reaches when nothing disturbs it, and how it is tried at each of them.

A trial strikes one process at one milestone in one way, looks, lets the next worker do what is due, and looks again.
While a worker is only stopped, however long, nobody else may begin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from shared.adapters.milestones import Milestone
from shared.domain.errors import HostBusy
from shared.runtime.worker import Disposition
from tests.faults.struck import BROKEN, DONE, FAILED, Effect, Given, Struck

KILLED: Final = -9
PROGRAMS_END_WITHIN_SECONDS: Final = 30.0
OUTCOMES: Final = {Effect.KILL: {KILLED}, Effect.RAISE: {DONE, FAILED}, Effect.STALL: {DONE}}

Handle = Callable[[], Awaitable[object]]


async def milestones_of(given: Given) -> list[Milestone]:
    """What an undisturbed worker reaches, in order, each once."""
    struck = await asyncio.to_thread(Struck, given)
    assert await asyncio.to_thread(struck.outcome) == DONE, given.said.read_text()
    return list(dict.fromkeys(map(Milestone, given.reached.read_text().splitlines())))


async def strike(given: Given, somebody_else: Handle) -> list[str]:
    """Strike a worker; returns what was wrong with how it ended, and with who worked beside it."""
    struck = await asyncio.to_thread(Struck, given)
    wrong = []
    if given.effect is Effect.STALL:
        if not await asyncio.to_thread(struck.stopped):
            wrong.append("it did not stop")
        else:
            wrong += await _beside(somebody_else)
            struck.go_on()
    outcome = await asyncio.to_thread(struck.outcome)
    if outcome == BROKEN or outcome not in OUTCOMES[given.effect]:
        wrong.append(f"it ended with {outcome}: {given.said.read_text()}")
    if given.milestone not in given.reached.read_text().splitlines():
        wrong.append("it never came there")
    return wrong


async def _beside(somebody_else: Handle) -> list[str]:
    """What is wrong when another worker is handed the tick of one that is stopped."""
    try:
        result = await somebody_else()
    except HostBusy:
        return []
    return [f"another worker was let in, and said {result}"]


async def until_done(handle: Callable[[], Awaitable[Disposition]], done: Disposition, tries: int) -> bool:
    """Work a tick off as often as the bus would bring it; whether it was done in the end."""
    for _ in range(tries):
        with suppress(OSError):
            if await _alone(handle) == done:
                return True
    return False


async def _alone(handle: Callable[[], Awaitable[Disposition]]) -> Disposition:
    """Wait for the programs of a worker that was killed: they have its lock until the kernel has ended them, too."""
    async with asyncio.timeout(PROGRAMS_END_WITHIN_SECONDS):
        while True:
            try:
                return await handle()
            except HostBusy:
                await asyncio.sleep(0.05)
