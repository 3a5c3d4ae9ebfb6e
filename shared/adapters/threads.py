"""Blocking work in threads, which nobody can stop: so nothing may go on as if it had ended.

A plain `asyncio.to_thread` that is cancelled leaves its thread running, with descriptors that are closed and given
to others meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")


async def in_thread(
    function: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs
) -> _Result:
    """Run a function in a thread; a cancellation takes effect when it has ended."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await _ended(work)
        raise


async def to_the_end(
    function: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs
) -> _Result:
    """Run a function in a thread and return what it returned, even when cancelled meanwhile: it is past stopping."""
    work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    await _ended(work)
    return work.result()


def stop_if_cancelled() -> None:
    """Take the cancellation that `to_the_end` kept from taking effect. Raises CancelledError."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _ended(work: asyncio.Future[_Result]) -> None:
    while not work.done():
        try:
            await asyncio.shield(asyncio.wait([work]))
        except asyncio.CancelledError:
            continue  # whoever asks again is told when the thread has ended
