"""`python -m services.archiver.packer FORMAT LEVEL TARGET POSITION`: compress the tar stream of the standard input.

TARGET is the descriptor of the file, POSITION that of a few bytes of shared memory in which it notes how many
members have passed (see position.py). A process of its own, so that it has its own interpreter lock and dies alone.

Exit code 0: the last line of the output has the totals, and the file is on the drive. 1: the last line has the
trouble.
"""

from __future__ import annotations

import fcntl
import os
import queue
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, cast

from services.archiver.compression import Compression, Format
from services.archiver.compressors import BLOCK_BYTES, compressor
from services.archiver.members import BrokenTar, MemberCounter
from services.archiver.position import Position
from services.archiver.reports import REPORTS_PER_SECOND, Packed, Packing, Trouble, tell
from services.archiver.sink import Sink

PIPE_BYTES: Final = 1024 * 1024


def main(words: list[str]) -> int:
    """Pack; returns the exit code."""
    compression = Compression(cast(Format, words[0]), int(words[1]))
    target, position = int(words[2]), Position(int(words[3]))
    try:
        tell(_pack(compression, target, position))
    except BrokenTar as error:
        tell(Trouble("stream", 0, str(error)))
    except OSError as error:
        tell(Trouble("target", error.errno or 0, error.strerror or str(error)))
    else:
        return 0
    finally:
        position.all_passed()
    return 1


def _pack(compression: Compression, target: int, position: Position) -> Packed:
    sink, counter = Sink(target), MemberCounter()
    compressed = compressor(compression, sink)
    blocks = _Blocks(0)
    due = time.monotonic()
    for block in blocks:
        counter.feed(memoryview(block))
        compressed.write(block, blocks.free)
        position.passed(counter.members)
        if time.monotonic() >= due:
            due = time.monotonic() + 1 / REPORTS_PER_SECOND
            tell(Packing(counter.members, counter.bytes, sink.written_bytes))
    counter.finish()
    compressed.close()
    sha256 = sink.close()
    return Packed(counter.members, counter.bytes, sink.written_bytes, sha256)


class _Blocks:
    """What a pipe gives, in blocks that are full, except for the last: what a block holds must not depend on luck.

    Blocks are used again: fresh memory for each would take a tenth of all the time.
    """

    def __init__(self, source: int) -> None:
        self._source = source
        self._free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        self.free = self._free.put
        with suppress(OSError):  # it is no pipe, or this user has too many large ones already
            fcntl.fcntl(source, fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def __iter__(self) -> Iterator[bytearray]:
        filled = BLOCK_BYTES
        while filled == BLOCK_BYTES:
            block = self._next()
            filled = self._fill(memoryview(block))
            if filled:
                yield block if filled == BLOCK_BYTES else block[:filled]

    def _next(self) -> bytearray:
        try:
            return self._free.get_nowait()
        except queue.Empty:
            return bytearray(BLOCK_BYTES)

    def _fill(self, room: memoryview) -> int:
        filled = 0
        while filled < len(room) and (count := os.readv(self._source, [room[filled:]])):
            filled += count
        return filled


if __name__ == "__main__":
    # Without a look back: threads that still hold a block cannot be stopped, and must not keep a dead run alive.
    code = main(sys.argv[1:])
    os._exit(code)
