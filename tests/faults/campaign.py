"""How often something is tried, beginning with which seed, by two processes side by side; and what came of it.

FAULTS_SEED     the first seed; without it another one each time, which is printed
FAULTS_CUTS     power cuts on each file system
FAULTS_STATES   judged states of a drive, of all file systems together
FAULTS_DRIVES   drives that fail or go, for each kind of trouble
FAULTS_SECONDS  how long a part may take
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from shared.adapters import process
from tests.faults import images

REPOSITORY: Final = Path(__file__).parents[2]
SEED: Final = int(os.environ.get("FAULTS_SEED", secrets.randbelow(1_000_000)))
WITHIN_SECONDS: Final = float(os.environ.get("FAULTS_SECONDS", "280"))
PARTS: Final = 2
_Told = TypeVar("_Told")


def how_often(name: str, usually: int) -> int:
    """How often something is tried; the environment may say otherwise."""
    return int(os.environ.get(name, usually))


def seeds(count: int) -> range:
    """The seeds of a campaign."""
    return range(SEED, SEED + count)


async def collected(
    place: Path, kind: type[_Told], module: str, words: Sequence[object], cases: Sequence[object]
) -> list[_Told]:
    """Have worker processes try all cases, in namespaces of their own; returns what they told of each."""
    parts = [part for part in (cases[number::PARTS] for number in range(PARTS)) if part]
    runs = (_part(place / str(number), kind, module, [*words, *part]) for number, part in enumerate(parts))
    return [told for part in await asyncio.gather(*runs) for told in part]


async def _part(place: Path, kind: type[_Told], module: str, words: Iterable[object]) -> list[_Told]:
    told = place.with_suffix(".told")
    worker = (sys.executable, "-m", f"tests.faults.{module}", str(place), str(told), *map(str, words))
    done = await process.run(images.isolated(*worker), timeout_seconds=WITHIN_SECONDS, cwd=REPOSITORY)
    assert done.returncode == 0, f"{' '.join(map(str, worker[1:]))}: {done.said}"
    return [msgspec.json.decode(line, type=kind) for line in told.read_bytes().splitlines()]


def spread(words: Iterable[str]) -> str:
    """What was tried how often, the most frequent first."""
    return ", ".join(f"{word} {count}" for word, count in Counter(words).most_common())
