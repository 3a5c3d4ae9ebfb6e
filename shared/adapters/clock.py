"""The only place that reads the time."""

from __future__ import annotations

import asyncio
import ctypes
import time
from datetime import UTC, datetime
from typing import Final

TIMEX_BYTES: Final = 512
"""More than a struct timex has on any machine."""

TIME_ERROR: Final = 5
"""What adjtimex(2) answers for a clock that nobody keeps right."""


class SystemClock:
    """The machine's clock, in UTC."""

    def now(self) -> datetime:
        """The present instant."""
        return datetime.now(UTC)

    def is_synchronised(self) -> bool:
        """Whether the kernel says that something (NTP, a hypervisor) keeps this clock right."""
        timex = ctypes.create_string_buffer(TIMEX_BYTES)  # all zero: read, and change nothing
        return int(ctypes.CDLL(None).adjtimex(timex)) in range(TIME_ERROR)

    def unix_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds that only go forward, for durations."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(max(0.0, seconds))
