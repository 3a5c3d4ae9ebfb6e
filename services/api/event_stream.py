"""An answer that goes on for as long as somebody reads it (SSE)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from typing import Any, Final, cast

from litestar.response import Stream
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import Receive, Send

STALLED_SECONDS: Final = 20.0
"""Who has not taken anything for so long is not there any more, or stands still."""

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "text/event-stream"
HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}


class EventStream(Stream):
    """A stream of server-sent events; it ends when the other side goes, or no longer reads."""

    def __init__(self, pieces: AsyncGenerator[bytes, None]) -> None:
        super().__init__(pieces, media_type=MEDIA_TYPE, headers=HEADERS)
        self._pieces = pieces

    def to_asgi_response(self, *_: Any, **given: Any) -> ASGIStreamingResponse:
        """The response that sends it."""
        headers = {**(given.get("headers") or {}), **HEADERS}
        return _Sent(iterator=self._pieces, media_type=MEDIA_TYPE, headers=headers, cookies=given.get("cookies"))


class _Sent(ASGIStreamingResponse):
    async def send_body(self, send: Send, receive: Receive) -> None:
        """Send until one side ends."""
        sending = asyncio.create_task(self._stream(send), name="event stream")
        leaving = asyncio.create_task(_left(receive), name="end of an event stream")
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            leaving.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _stream(self, send: Send) -> None:
        pieces = cast("AsyncGenerator[bytes, None]", self.iterator)
        async with contextlib.aclosing(pieces):
            try:
                async for piece in pieces:
                    await _take(send, piece, more=True)
                await _take(send, b"", more=False)
            except TimeoutError:
                log.info("An event stream was cut off: nobody has read it for %g s.", STALLED_SECONDS)


async def _take(send: Send, body: bytes, *, more: bool) -> None:
    async with asyncio.timeout(STALLED_SECONDS):
        await send({"type": "http.response.body", "body": body, "more_body": more})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
