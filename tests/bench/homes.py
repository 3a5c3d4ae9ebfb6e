"""Home directories to measure with: many small files, some hard links, some symbolic links, ten levels deep."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FILES_PER_DIRECTORY: Final = 12
DEEPEST: Final = 10
MEDIAN_BYTES: Final = 1_500
SPREAD: Final = 1.75
"""Of the logarithm of the sizes: it makes the mean about 7 KB, with a median of 1.5 KB."""

LARGEST_BYTES: Final = 4 * 1024 * 1024
HARD_LINK_SHARE: Final = 0.005
SYMLINK_SHARE: Final = 0.01
YEAR_SECONDS: Final = 365 * 24 * 3600
NEWEST: Final = 1_767_225_600
"""2026-01-01: files are up to three years older than that."""


def build_home(top: Path, files: int, seed: int = 1) -> list[Path]:
    """Make a home of so many regular files; the same seed makes the same home. Returns the files, links left out."""
    dice = random.Random(seed)  # noqa: S311  # nothing here is secret
    content = dice.randbytes(2 * LARGEST_BYTES)
    top.mkdir(parents=True)
    made: list[Path] = []
    for number, folder in zip(range(files), folders(top, dice), strict=False):
        path = folder / f"f{number:06}.dat"
        if made and dice.random() < HARD_LINK_SHARE:
            os.link(dice.choice(made), path)
            continue
        _write(path, content, dice)
        mtime = NEWEST - dice.random() * 3 * YEAR_SECONDS
        os.utime(path, (mtime, mtime))
        made.append(path)
        if dice.random() < SYMLINK_SHARE:
            path.with_suffix(".link").symlink_to(os.path.relpath(dice.choice(made), folder))
    return made


def folders(top: Path, dice: random.Random) -> Iterator[Path]:
    """The folder of each next file; a folder is made when the one before has enough files."""
    folders = [(top, 0)]
    for number in range(1, 10**9):
        parent, depth = dice.choice(folders)
        while depth >= DEEPEST:
            parent, depth = dice.choice(folders)
        folder = parent / f"d{number:05}"
        folder.mkdir()
        folders.append((folder, depth + 1))
        for _ in range(FILES_PER_DIRECTORY):
            yield folder


def _write(path: Path, content: bytes, dice: random.Random) -> None:
    size = min(LARGEST_BYTES, int(MEDIAN_BYTES * dice.lognormvariate(0, SPREAD)))
    start = dice.randrange(LARGEST_BYTES)
    path.write_bytes(memoryview(content)[start : start + size])


def change_home(files: list[Path], share: float, seed: int) -> int:
    """Write a share of the files anew, as an hour of work does; returns how many."""
    dice = random.Random(seed)  # noqa: S311  # nothing here is secret
    content = dice.randbytes(2 * LARGEST_BYTES)
    chosen = dice.sample(files, max(1, int(len(files) * share)))
    for path in chosen:
        _write(path, content, dice)
    return len(chosen)
