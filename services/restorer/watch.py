"""Long work in a thread that can be watched and stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from shared.adapters.threads import in_thread

LOOK_SECONDS: Final = 0.5

_Result = TypeVar("_Result")

Tell = Callable[[str, int, int], Awaitable[None]]
"""Told how far it is: the stage, files, bytes."""


class Stopped(Exception):
    """The work was told to end."""


class Watch:
    """How far the work is, and whether it is to end."""

    def __init__(self) -> None:
        self.files = 0
        self.bytes = 0
        self.stopped = False

    def go_on(self) -> None:
        """Raises Stopped when the work is to end."""
        if self.stopped:
            raise Stopped


async def watched(work: Callable[[Watch], _Result], tell: Callable[[Watch], Awaitable[None]]) -> _Result:
    """Do blocking work in a thread, telling how far it is; a cancellation stops it soon."""
    watch = Watch()
    doing = asyncio.create_task(in_thread(work, watch))
    try:
        while not doing.done():
            await asyncio.wait({doing}, timeout=LOOK_SECONDS)
            await tell(watch)
        return doing.result()
    finally:
        watch.stopped = True
        await asyncio.gather(doing, return_exceptions=True)
