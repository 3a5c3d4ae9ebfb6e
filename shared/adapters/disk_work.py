"""Blocking work on a drive for many at once: in a few threads, and nobody waits for ever for a drive that hangs.

A thread cannot be stopped. So whoever waits is told after a while that the drive is slow, while the work goes on and
gives up what it holds when it ends: a function that is given here closes what it opens.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, ParamSpec, TypeVar

from shared.domain.errors import BackupManagerError

MOST_AT_ONCE: Final = 8
WAIT_SECONDS: Final = 15.0
WORK_SECONDS: Final = 60.0

_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")


class DriveSlow(BackupManagerError):
    """The drive did not answer in time, or too many are waiting for it."""


class DiskWork:
    """So many threads, for everything that somebody reads from the drive."""

    def __init__(self, most: int = MOST_AT_ONCE, *, work_seconds: float = WORK_SECONDS) -> None:
        self._threads = ThreadPoolExecutor(most, thread_name_prefix="disk")
        self._free = asyncio.Semaphore(most)
        self._work_seconds = work_seconds

    async def do(
        self,
        function: Callable[_Arguments, _Result],
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Result:
        """Run a function in a thread. Raises DriveSlow, and what the function raises."""
        return await self.handed_over(lambda _: None, function, *args, **kwargs)

    async def handed_over(
        self,
        give_up: Callable[[_Result], None],
        function: Callable[_Arguments, _Result],
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Result:
        """The same for a function that returns something to be closed: `give_up` gets it when nobody waits any more."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._free.acquire()
        except TimeoutError as error:
            raise DriveSlow("Too much is being read from the drive.", "Try again in a moment.") from error
        work = asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *args, **kwargs))
        work.add_done_callback(lambda _: self._free.release())
        try:
            await asyncio.wait([work], timeout=self._work_seconds)
        except asyncio.CancelledError:
            work.add_done_callback(partial(_abandoned, give_up))
            raise
        if not work.done():
            work.add_done_callback(partial(_abandoned, give_up))
            raise DriveSlow("The drive does not answer.", "Is it spinning up, or failing? Try again in a moment.")
        return work.result()

    def later(self, function: Callable[[], None]) -> None:
        """Run a function in a thread when one is free; nobody waits for it."""
        try:
            self._threads.submit(function)
        except RuntimeError:  # nothing is started any more
            function()

    def close(self) -> None:
        """Start nothing any more."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _abandoned(give_up: Callable[[_Result], None], work: asyncio.Future[_Result]) -> None:
    if not work.cancelled() and work.exception() is None:
        give_up(work.result())
