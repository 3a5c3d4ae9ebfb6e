"""Pieces that are made by blocking work, given to whoever sends them: one is made while the one before is sent."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from threading import Lock
from typing import Final

from shared.adapters.disk_work import DiskWork

PIECE_BYTES: Final = 1 << 20


class Pieces:
    """A source of pieces, and what has to be given up at its end. It may be closed while a piece is being made."""

    def __init__(self, source: Generator[bytes, None, None], release: Callable[[], None]) -> None:
        self._source = source
        self._release = release
        self._lock = Lock()
        self._closed = False

    def next(self) -> bytes:
        """The next piece; nothing at the end. Blocking."""
        with self._lock:
            return b"" if self._closed else next(self._source, b"")

    def close(self) -> None:
        """Give everything up, as soon as nothing is being made any more. Blocking."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._source.close()
            self._release()


async def pulled(pieces: Pieces, work: DiskWork) -> AsyncGenerator[bytes, None]:
    """The pieces, as they are wanted."""
    ahead = asyncio.create_task(work.do(pieces.next), name="the next piece")
    try:
        while piece := await ahead:
            ahead = asyncio.create_task(work.do(pieces.next), name="the next piece")
            yield piece
    finally:
        ahead.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await ahead


def pieces_of_file(descriptor: int, start: int, end: int) -> Generator[bytes, None, None]:
    """Some bytes of an open file. Raises EOFError when they end too early."""
    while start < end:
        piece = os.pread(descriptor, min(PIECE_BYTES, end - start), start)
        if not piece:
            raise EOFError(f"a file ends {end - start} bytes too early")
        start += len(piece)
        yield piece
