"""What is in the files of a home that compresses like a real one: program text, prose and data, and photos.

Random bytes would flatter nobody and zeros everybody. So the text is the standard library's own, cut at random into
pieces and put together anew, which keeps its words and lines but no longer repeats whole files; the binaries are the
interpreter's own; and photos and films are random bytes, because they are compressed already.
"""

from __future__ import annotations

import random
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final

TEXT_BYTES: Final = 24 * 1024 * 1024
BINARY_BYTES: Final = 16 * 1024 * 1024
MEDIAN_PIECE_BYTES: Final = 600
PHOTO_BYTES: Final = (200_000, 3_000_000)


class Contents:
    """Makes the content of files; the same seed makes the same content on the same installation of Python."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)  # noqa: S311  # nothing here is secret
        library = Path(sysconfig.get_paths()["stdlib"])
        self._text = _read(sorted(library.glob("**/*.py")), TEXT_BYTES)
        programs = [Path(sys.executable).resolve(), *sorted(library.glob("lib-dynload/*.so"))]
        self._binary = _read(programs, BINARY_BYTES)

    def text(self, size_bytes: int) -> bytes:
        """Program text of this length."""
        return self._pieces(self._text, size_bytes, MEDIAN_PIECE_BYTES)

    def binary(self, size_bytes: int) -> bytes:
        """What databases, documents and programs are like, of this length."""
        return self._pieces(self._binary, size_bytes, 8 * MEDIAN_PIECE_BYTES)

    def photo(self) -> bytes:
        """A photo: nothing makes it smaller."""
        return self._dice.randbytes(self._dice.randint(*PHOTO_BYTES))

    def _pieces(self, source: bytes, size_bytes: int, median_bytes: int) -> bytes:
        made = bytearray()
        while len(made) < size_bytes:
            start = self._dice.randrange(len(source))
            length = int(median_bytes * self._dice.lognormvariate(0, 1))
            made += source[start : start + length]
        return bytes(made[:size_bytes])


def _read(paths: list[Path], limit_bytes: int) -> bytes:
    read = bytearray()
    for path in _small(paths):
        read += path.read_bytes()
        if len(read) >= limit_bytes:
            break
    return bytes(read[:limit_bytes])


def _small(paths: list[Path]) -> Iterator[Path]:
    """Files of data that is written as program text would be most of what is read, so they are left out."""
    return (path for path in paths if "site-packages" not in path.parts and path.stat().st_size < 32 * 1024 * 1024)
