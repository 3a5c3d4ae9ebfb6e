"""What is in the files of a home that compresses like a real one: program text, prose and data, and photos.

Random bytes would flatter nobody and zeros everybody. So the text is the standard library's own, cut at random into
pieces and put together anew, which keeps its words and lines but no longer repeats whole files; the binaries are the
interpreter's own; and photos and films are random bytes, because they are compressed already.
"""

from __future__ import annotations

import os
import random
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.bench import homes

TEXT_BYTES: Final = 24 * 1024 * 1024
BINARY_BYTES: Final = 16 * 1024 * 1024
MEDIAN_PIECE_BYTES: Final = 600
PHOTO_BYTES: Final = (200_000, 3_000_000)


PHOTO_SHARE: Final = 0.0025
BINARY_SHARE: Final = 0.12
"""Of the files, photos included."""


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


def build_lived_in_home(top: Path, files: int, seed: int = 1) -> int:
    """Make a home of so many files with such contents; returns its bytes. About a third of them are photos."""
    dice = random.Random(seed)  # noqa: S311  # nothing here is secret
    contents = Contents(seed)
    top.mkdir(parents=True)
    total_bytes = 0
    for number, folder in zip(range(files), homes.folders(top, dice), strict=False):
        path = folder / f"f{number:06}.dat"
        content = _content(contents, dice)
        path.write_bytes(content)
        total_bytes += len(content)
        mtime_ns = homes.NEWEST * 10**9 - dice.randrange(3 * homes.YEAR_SECONDS * 10**9)
        os.utime(path, ns=(mtime_ns, mtime_ns))
    return total_bytes


def _content(contents: Contents, dice: random.Random) -> bytes:
    kind = dice.random()
    if kind < PHOTO_SHARE:
        return contents.photo()
    size_bytes = min(homes.LARGEST_BYTES, int(homes.MEDIAN_BYTES * dice.lognormvariate(0, homes.SPREAD)))
    return contents.binary(size_bytes) if kind < BINARY_SHARE else contents.text(size_bytes)


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
