"""`python -m services.archiver.readback FORMAT FILE`: read an archive back, as whoever restores it will.

FILE is the descriptor of a file that is on the drive. It is read from there, not from memory, decompressed to its
end, which proves every checksum in it, and counted. Exit code 0: the last line of the output has the totals. 1: it
has the trouble.
"""

from __future__ import annotations

import hashlib
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from typing import Final, Protocol, cast

import zstandard
from isal import isal_zlib

from services.archiver.members import BrokenTar, MemberCounter
from services.archiver.reports import REPORTS_PER_SECOND, Packed, Packing, Trouble, tell

READ_BYTES: Final = 1024 * 1024
PIECES_BYTES: Final = {"tar.gz": 64 * 1024, "tar.zst": 2 * 1024}
"""What is decompressed at once: at its best, a piece becomes 64 MiB of zeros."""

_IN_A_GZIP_FILE: Final = 31
_BROKEN: Final = (cast("type[Exception]", isal_zlib.error), zstandard.ZstdError)  # its stubs call it an instance


class Decompressor(Protocol):
    """What all of them have."""

    @property
    def eof(self) -> bool:
        """Whether the stream ended as it should, with the right checksum."""

    def decompress(self, piece: bytes | memoryview, /) -> bytes:
        """Take the next piece."""


def main(words: list[str]) -> int:
    """Read back; returns the exit code."""
    try:
        tell(_read_back(words[0], int(words[1])))
    except BrokenTar as error:
        tell(Trouble("stream", 0, str(error)))
    except _BROKEN as error:
        tell(Trouble("stream", 0, f"it cannot be decompressed ({error})"))
    except OSError as error:
        tell(Trouble("target", error.errno or 0, error.strerror or str(error)))
    else:
        return 0
    return 1


def _read_back(archive_format: str, file: int) -> Packed:
    source, counter = _Source(file), MemberCounter()
    due = time.monotonic()
    for content in _decompressed(archive_format, source):
        counter.feed(content)
        if time.monotonic() >= due:
            due = time.monotonic() + 1 / REPORTS_PER_SECOND
            tell(Packing(counter.members, counter.bytes, source.read_bytes))
    counter.finish()
    return Packed(counter.members, counter.bytes, source.read_bytes, source.digest.hexdigest())


def _decompressed(archive_format: str, source: _Source) -> Iterator[bytes]:
    made: Decompressor = isal_zlib.decompressobj(_IN_A_GZIP_FILE)
    if archive_format == "tar.zst":
        made = zstandard.ZstdDecompressor().decompressobj()
    step = PIECES_BYTES[archive_format]
    for chunk in source.chunks():
        view = memoryview(chunk)
        for start in range(0, len(chunk), step):
            if made.eof:
                raise BrokenTar("something follows behind its end")
            yield made.decompress(view[start : start + step])
    if not made.eof:
        raise BrokenTar("it ends too early")
    if getattr(made, "unused_data", b""):
        raise BrokenTar("something follows behind its end")


class _Source:
    """The file, read and hashed by a thread of its own while the content before is decompressed."""

    def __init__(self, file: int) -> None:
        self.digest = hashlib.sha256()
        self.read_bytes = 0
        self._file = file
        self._queue: queue.Queue[bytes | OSError] = queue.Queue(4)
        # What is on the drive, and not what is still in memory, is what will be there after a power cut.
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        threading.Thread(target=self._read, name="source", daemon=True).start()

    def chunks(self) -> Iterator[bytes]:
        """The content of the file. Raises OSError."""
        while chunk := self._queue.get():
            if isinstance(chunk, OSError):
                raise chunk
            yield chunk

    def _read(self) -> None:
        chunk: bytes | OSError = b"-"
        while chunk and not isinstance(chunk, OSError):
            try:
                chunk = os.pread(self._file, READ_BYTES, self.read_bytes)
                self.digest.update(chunk)
                self.read_bytes += len(chunk)
            except OSError as error:
                chunk = error
            self._queue.put(chunk)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    os._exit(code)  # the thread may still be reading
