"""Compressors that use all processors: they take blocks and give a sink what belongs into the file.

A gzip file is made as pigz makes it: each block is compressed by itself, with the end of the one before as its
dictionary, and ends on a byte, so that the pieces put together are one ordinary stream. The result depends on the
content and the level only, never on how many threads there are.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

import zstandard
from isal import isal_zlib
from zlib_ng import zlib_ng

from services.archiver.compression import IGZIP_LEVELS, ZLIB_NG_LEVELS, ZSTD_LEVELS, Compression
from services.archiver.sink import Sink

BLOCK_BYTES: Final = 1024 * 1024
MOST_THREADS: Final = 8
"""More could not be kept busy: one tar is what they all wait for."""

WINDOW_BYTES: Final = 32 * 1024
GZIP_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""No name, no time: the same tree makes the same bytes."""

LAST_BLOCK: Final = b"\x03\x00"
IGZIP_MEMORY_LEVEL: Final = 3
"""Smaller buffers, so codes that fit each file: measured 0.5 % smaller than what igzip takes by itself."""

SAMPLE_BYTES: Final = 512
SAMPLE_EVERY_BYTES: Final = 32 * 1024
NOISE_RATIO: Final = 0.99
"""One sample of text among those of a block is enough to have it compressed."""

Deflate = Callable[[bytes | bytearray, bytes], bytes]


Done = Callable[[bytearray], None]
"""Called, from any thread, with a block that is not needed any more."""


class Compressor(Protocol):
    """Takes the blocks of a stream."""

    def write(self, block: bytearray, done: Done) -> None:
        """Take the next block, and say when it may be used again. Raises what went wrong with one before."""

    def close(self) -> None:
        """Give the sink the end of the stream."""


def compressor(compression: Compression, sink: Sink, threads: int | None = None) -> Compressor:
    """The compressor of a format and level. `threads` is as many as there are processors, unless it is given."""
    threads = threads or min(MOST_THREADS, len(os.sched_getaffinity(0)))
    if compression.format == "tar.zst":
        return Zstd(ZSTD_LEVELS[compression.level], sink, threads)
    return Gzip(compression.level, sink, threads)


class Gzip:
    """A gzip file, block by block."""

    def __init__(self, level: int, sink: Sink, threads: int) -> None:
        self._deflate = _igzip(IGZIP_LEVELS[level]) if level in IGZIP_LEVELS else _zlib_ng(ZLIB_NG_LEVELS[level])
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="deflate")
        self._sink = sink
        self._window = b""
        self._crc = 0
        self._size = 0
        sink.put(GZIP_HEADER)

    def write(self, block: bytearray, done: Done) -> None:
        """Take the next block."""
        window, self._window = self._window, bytes(memoryview(block)[-WINDOW_BYTES:])
        self._size += len(block)
        # Cheap beside the rest (some GB/s), and here it needs no putting together.
        self._crc = isal_zlib.crc32(block, self._crc)
        compressing = self._pool.submit(self._deflate, block, window)
        compressing.add_done_callback(lambda _: done(block))
        self._sink.put(compressing)

    def close(self) -> None:
        """The end and the sum."""
        self._sink.put(LAST_BLOCK + struct.pack("<II", self._crc, self._size & 0xFFFFFFFF))
        self._pool.shutdown()


def _igzip(level: int) -> Deflate:
    def deflate(block: bytes | bytearray, window: bytes) -> bytes:
        if _is_noise(block):
            return _stored(block)
        options = (level, isal_zlib.DEFLATED, -15, IGZIP_MEMORY_LEVEL, isal_zlib.Z_DEFAULT_STRATEGY)
        made = isal_zlib.compressobj(*options, window) if window else isal_zlib.compressobj(*options)
        return made.compress(block) + made.flush(isal_zlib.Z_SYNC_FLUSH)

    return deflate


def _is_noise(block: bytes | bytearray) -> bool:
    """Whether a block is a part of a photo or a film, to look at a few small samples of it.

    igzip would find nothing in it either, and take as long as for any other.
    """
    view = memoryview(block)
    samples = b"".join(view[start : start + SAMPLE_BYTES] for start in range(0, len(block), SAMPLE_EVERY_BYTES))
    return len(isal_zlib.compress(samples, 1, -15)) > NOISE_RATIO * len(samples)


def _stored(block: bytes | bytearray) -> bytes:
    made = zlib_ng.compressobj(0, zlib_ng.DEFLATED, -15)
    return made.compress(block) + made.flush(zlib_ng.Z_SYNC_FLUSH)


def _zlib_ng(level: int) -> Deflate:
    def deflate(block: bytes | bytearray, window: bytes) -> bytes:
        options = (level, zlib_ng.DEFLATED, -15, 8, zlib_ng.Z_DEFAULT_STRATEGY)
        made = zlib_ng.compressobj(*options, window) if window else zlib_ng.compressobj(*options)
        return made.compress(block) + made.flush(zlib_ng.Z_SYNC_FLUSH)

    return deflate


class Zstd:
    """One zstd frame with a checksum; the library has threads of its own."""

    def __init__(self, level: int, sink: Sink, threads: int) -> None:
        # With one thread it would be another way of compressing, and so other bytes; -1 or 0 too.
        made = zstandard.ZstdCompressor(level=level, threads=max(threads, 2), write_checksum=True)
        self._frame = made.compressobj()
        self._sink = sink

    def write(self, block: bytearray, done: Done) -> None:
        """Take the next block."""
        if made := self._frame.compress(block):
            self._sink.put(made)
        done(block)

    def close(self) -> None:
        """The end of the frame."""
        self._sink.put(self._frame.flush())
