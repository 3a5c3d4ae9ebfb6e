"""Writes and hashes in a thread of its own, so that whoever compresses never waits for either."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

WAITING: Final = 8
"""Pieces on their way. They bound the memory: each is at most about a block."""

WRITE_BACK_BYTES: Final = 16 * 1024 * 1024
"""After so much the drive is asked to write what it has, so that little is left for the end. Nobody reads it soon."""

Piece = bytes | Future[bytes]


class Sink:
    """Takes pieces, or promises of pieces, in the order in which they belong into the file."""

    def __init__(self, descriptor: int) -> None:
        self.written_bytes = 0
        self._descriptor = descriptor
        self._asked_bytes = 0
        self._digest = hashlib.sha256()
        self._queue: queue.Queue[Piece | None] = queue.Queue(WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="sink", daemon=True)
        self._thread.start()

    def put(self, piece: Piece) -> None:
        """Take the next piece. Raises what went wrong with one before."""
        if self._error is not None:
            raise self._error
        self._queue.put(piece)

    def close(self) -> str:
        """Write what is left, down to the drive; the SHA-256 of everything in hex. Raises what went wrong."""
        self._queue.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error
        os.fsync(self._descriptor)
        return self._digest.hexdigest()

    def _run(self) -> None:
        take: Callable[[Piece], None] = self._take
        while (piece := self._queue.get()) is not None:
            try:
                take(piece)
            except BaseException as error:  # noqa: BLE001  # it is raised where the next piece comes from
                self._error = self._error or error
                take = _drop

    def _take(self, piece: Piece) -> None:
        content = piece if isinstance(piece, bytes) else piece.result()
        self._digest.update(content)
        self.written_bytes += len(content)
        view = memoryview(content)
        while view:
            view = view[os.write(self._descriptor, view) :]
        if self.written_bytes - self._asked_bytes >= WRITE_BACK_BYTES:
            os.posix_fadvise(self._descriptor, self._asked_bytes, WRITE_BACK_BYTES, os.POSIX_FADV_DONTNEED)
            self._asked_bytes += WRITE_BACK_BYTES


def _drop(_piece: Piece) -> None:
    """After an error everything else is only taken away, so that nobody waits for ever to bring it."""
