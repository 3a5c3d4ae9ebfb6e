"""A drive that is full, fails, or goes while something is done on it: nothing that is on it is lost, nor said wrongly.

Afterwards, with the trouble gone, the same is judged as after a power cut; and a drive that was not the one that a run
began on has not one byte of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.faults import images, strace
from tests.faults.campaign import SEED, collected, how_often, seeds, spread
from tests.faults.conftest import Tell
from tests.faults.failing import Failed
from tests.faults.filling import EIGHTHS, MAKERS, Filled
from tests.faults.processes import DONE, REFUSED
from tests.support.places import new_place

WHY_NOT: Final = images.why_not(images.EXT4, images.XFS) or strace.why_not()
TRIALS: Final = {"write": 20, "writes": 20, "EROFS": 24, "read-only": 20, "unmounted": 20, "another": 20}

pytestmark = [pytest.mark.campaign, pytest.mark.root, pytest.mark.skipif(WHY_NOT != "", reason=WHY_NOT)]


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


@pytest.mark.parametrize("what", ["bytes", "inodes"])
async def test_too_little_room_makes_nothing_that_looks_complete_and_costs_nothing(
    place: Path, what: str, tell: Tell
) -> None:
    cases = [f"{name}:{eighths}" for name in MAKERS for eighths in range(EIGHTHS)]
    found = await collected(place, Filled, "filling", [what], cases)
    tell(f"{len(found)} runs with too few {what}: {spread(f'{one.protocol} {one.outcome}' for one in found)}")
    wrong = [f"{one.protocol} with {one.free} of {one.needed} {what}: {it}" for one in found for it in one.wrong]
    assert wrong == []
    assert len(found) == len(cases)
    # What a directory has room for already is not taken anew: close to the end some succeed.
    assert sum(one.outcome == REFUSED for one in found) > len(cases) / 2
    assert [one for one in found if one.free == 0 and one.outcome == DONE] == []


@pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="this machine has no /dev/fuse")
@pytest.mark.parametrize("trouble", TRIALS)
async def test_a_drive_that_fails_or_goes_meanwhile_costs_nothing_that_was_promised(
    place: Path, trouble: str, tell: Tell
) -> None:
    count = how_often("FAULTS_DRIVES", TRIALS[trouble])
    found = await collected(place, Failed, "failing", [trouble], seeds(count))
    tell(
        f"{len(found)} times {trouble}, seeds from {SEED}: {spread(one.protocol for one in found)}",
        f"the run was {spread(one.outcome for one in found)}",
    )
    wrong = [f"FAULTS_SEED={one.seed} ({one.protocol} at {one.when}): {it}" for one in found for it in one.wrong]
    assert wrong == []
    assert len(found) == count
    assert any(one.outcome == REFUSED for one in found)
