"""Waiting for servers that were started at the same moment and are not up yet."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from shared.adapters.bus_client import BusForbids, BusUnavailable
from shared.adapters.clock import SystemClock
from shared.domain.errors import LogUnavailable

_Result = TypeVar("_Result")

TRY_AGAIN_SECONDS: Final = 1.0

log = logging.getLogger(__name__)


async def patiently(attempt: Callable[[], Awaitable[_Result]], *, wait_seconds: float) -> _Result:
    """The result of an attempt, made again while log or bus cannot be reached, until the time is over.

    Raises what the last attempt raised: LogUnavailable or BusUnavailable; anything else at once.
    """
    clock = SystemClock()
    deadline = clock.monotonic() + wait_seconds
    while True:
        try:
            return await attempt()
        except (LogUnavailable, BusUnavailable) as error:
            if isinstance(error, BusForbids) or clock.monotonic() >= deadline:
                raise
            log.info("Not yet: %s", error)
        await clock.sleep(TRY_AGAIN_SECONDS)
