"""An answer that is sent piece by piece, at the speed of whoever reads it, and ended when nobody does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any, Final

from litestar import Response
from litestar.types import ASGIApp, Receive, Scope, Send

STALLED_SECONDS: Final = 300.0
"""Who takes nothing for so long is taken for gone."""


class Sending(Response[None]):
    """Pieces on their way. `release` is called at the end, whatever the end is."""

    def __init__(
        self, status: int, headers: Mapping[str, str], pieces: AsyncGenerator[bytes, None], release: Callable[[], None]
    ) -> None:
        super().__init__(None, status_code=status, headers=dict(headers))
        self._pieces = pieces
        self._release = release

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIApp:  # type: ignore[override]  # it is one for who calls it
        """What the server calls."""
        raw = [
            (name.encode("latin-1"), value.encode("latin-1", "backslashreplace"))
            for name, value in self.headers.items()
        ]

        async def answer(_: Scope, receive: Receive, send: Send) -> None:
            try:
                await send({"type": "http.response.start", "status": self.status_code or 200, "headers": raw})
                async with aclosing(self._pieces) as pieces:
                    await _until_gone(_send(pieces, send), receive)
            finally:
                self._release()

        return answer


async def _send(pieces: AsyncGenerator[bytes, None], send: Send) -> None:
    async for piece in pieces:
        async with asyncio.timeout(STALLED_SECONDS):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_gone(sending: Any, receive: Receive) -> None:
    """Send until everything is sent or the other side has left."""
    work = asyncio.ensure_future(sending)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()
    finally:
        for task in (work, gone):
            task.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
