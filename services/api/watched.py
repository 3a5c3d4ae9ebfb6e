"""Streams of events end when whoever listens may not listen any more: they may be open for days."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from litestar.types import Message, Send

from shared.adapters.clock import SystemClock
from shared.domain.errors import LogUnavailable

CHECK_EVERY_SECONDS: Final = 10.0
STREAM: Final = b"text/event-stream"


class Watched:
    """Sends an answer on; a stream of events only as long as `still` says so, asked every few seconds."""

    def __init__(self, send: Send, still: Callable[[], Awaitable[bool]], clock: SystemClock) -> None:
        self._send = send
        self._still = still
        self._clock = clock
        self._checked: float | None = None
        self._ended = False

    async def send(self, message: Message) -> None:
        """Send a message on, or end the stream."""
        if message["type"] == "http.response.start":
            kinds = [value for name, value in message["headers"] if name.lower() == b"content-type"]
            self._checked = self._clock.monotonic() if any(kind.startswith(STREAM) for kind in kinds) else None
        elif self._checked is not None and not self._ended and await self._is_over(self._checked):
            self._ended = True
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        if not self._ended:
            await self._send(message)

    async def _is_over(self, checked: float) -> bool:
        if self._clock.monotonic() - checked < CHECK_EVERY_SECONDS:
            return False
        self._checked = self._clock.monotonic()
        try:
            return not await self._still()
        except LogUnavailable:
            return False  # nothing new can be told meanwhile
