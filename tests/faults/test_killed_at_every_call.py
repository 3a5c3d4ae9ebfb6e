"""Remove, archive, golden copy, restore: stopped at any call to the kernel, they leave each point whole or gone.

Every call that changes the drive is disturbed once in a run of its own: by a kill before it, or by making it fail.
After each, and again when the services have cleared up as they do when they start, every older point is what it was,
and whatever bears a marker is whole. Then the same is asked for once more, and ends like an undisturbed run.

What this cannot show is the loss of power: the kernel lives, so nothing that was written is lost without its fsync.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import pytest

from shared.adapters import process
from tests.faults import strace
from tests.faults.restores import STRUCK
from tests.faults.worker import PARTS, Tried
from tests.support.backups import must
from tests.support.places import new_place

REPOSITORY: Final = Path(__file__).parents[2]
WORKER: Final = (sys.executable, "-m", "tests.faults.worker")
WITHIN_SECONDS: Final = 280
WHY_NOT: Final = strace.why_not()

pytestmark = pytest.mark.skipif(WHY_NOT != "", reason=WHY_NOT)
every_protocol = pytest.mark.parametrize("name", STRUCK)


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """A folder with the drive that all begin with."""
    with new_place() as place:
        asyncio.run(must("env", "-C", str(REPOSITORY), *WORKER, str(place)))
        yield place


async def tried(base: Path, name: str, *effects: str) -> list[Tried]:
    """What came of all disturbances of a protocol, tried by several processes side by side."""
    argvs = [[*WORKER, str(base), name, str(part), *effects] for part in range(PARTS)]
    runs = (process.run(argv, timeout_seconds=WITHIN_SECONDS, cwd=REPOSITORY) for argv in argvs)
    found: list[Tried] = []
    for part, done in enumerate(await asyncio.gather(*runs)):
        assert done.returncode == 0, done.said
        lines = (base / str(part) / "told").read_bytes().splitlines()
        found += [msgspec.json.decode(line, type=Tried) for line in lines]
        shutil.rmtree(base / str(part))
    return found


def assert_good(name: str, found: list[Tried], *effects: str) -> None:
    wrong = [f"{one.effect} of {one.who} at {one.call} {one.number}: {it}" for one in found for it in one.wrong]
    assert wrong == []
    protocol, struck = STRUCK[name], Counter((one.who, one.effect) for one in found)
    for effect in effects:
        assert struck["the main process", effect] >= protocol.calls
        assert struck["a program", effect] >= (1 if protocol.programs else 0)
    if protocol.steady:
        assert struck["a program and the main process", "kill"] == struck["a program", "kill"]


@every_protocol
async def test_killed_at_any_call_it_leaves_each_point_whole_or_gone(base: Path, name: str) -> None:
    assert_good(name, await tried(base, name, "kill"), "kill")


@every_protocol
async def test_an_error_at_any_call_ends_it_and_leaves_each_point_whole_or_gone(base: Path, name: str) -> None:
    assert_good(name, await tried(base, name, "EIO", "ENOSPC"), "EIO", "ENOSPC")
