"""The power goes: at any moment of anything that is done to a drive, and between any two writes that reach it.

Afterwards the file system is mounted again, as it is after a power cut. Every older restore point is what it was, a
marker is only where everything is that it vouches for, `current` points to a complete snapshot, what had said that it
was done is done, and the next run succeeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from string import digits
from typing import Final

import pytest

from tests.faults import images, strace
from tests.faults.campaign import SEED, collected, how_often, seeds, spread
from tests.faults.conftest import Tell
from tests.faults.power import Cut
from tests.faults.renames import NEW, OLD, Moved
from tests.faults.states import State
from tests.support.places import new_place

STATES_OF_A_RUN: Final = 8
NO_FUSE: Final = pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="this machine has no /dev/fuse")
WHY_NOT: Final = strace.why_not()

pytestmark = [pytest.mark.campaign, pytest.mark.root, pytest.mark.skipif(WHY_NOT != "", reason=WHY_NOT)]


def on_each(kinds: Iterable[str]) -> pytest.MarkDecorator:
    """For each of these file systems; the test says of which it cannot be tried here, and why."""
    why_not = {kind: images.why_not(kind) for kind in kinds}
    params = [pytest.param(kind, marks=pytest.mark.skipif(why != "", reason=why)) for kind, why in why_not.items()]
    return pytest.mark.parametrize("kind", params)


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


@on_each(images.TO_BE_CUT)
async def test_a_power_cut_at_any_moment_costs_nothing_that_was_promised(place: Path, kind: str, tell: Tell) -> None:
    count = how_often("FAULTS_CUTS", 40)
    cuts = await collected(place, Cut, "power", [kind], seeds(count))
    tell(
        f"{len(cuts)} power cuts on {kind}, seeds from {SEED}: {spread(cut.protocol for cut in cuts)}",
        f"found: {spread(cut.phase for cut in cuts)}; the run was {spread(cut.outcome for cut in cuts)}",
        f"struck at: {spread(cut.when.split(' ')[0] for cut in cuts if not cut.when.startswith(('the end', *digits)))}",
    )
    wrong = [f"FAULTS_SEED={cut.seed} ({cut.protocol} at {cut.when}): {it}" for cut in cuts for it in cut.wrong]
    assert wrong == []
    assert len(cuts) == count


@NO_FUSE
@on_each(images.KINDS)
async def test_whatever_part_of_the_writes_a_drive_has_it_costs_nothing_that_was_promised(
    place: Path, kind: str, tell: Tell
) -> None:
    runs = how_often("FAULTS_STATES", 480) // STATES_OF_A_RUN // len(images.KINDS)
    found = await collected(place, State, "states", [kind, STATES_OF_A_RUN], seeds(runs))
    tenths = Counter(min(9, 10 * state.position // max(1, state.of)) for state in found)
    tell(
        f"{len(found)} states of drives on {kind}, seeds from {SEED}: {spread(state.protocol for state in found)}",
        f"in the tenths of a run: {' '.join(str(tenths[tenth]) for tenth in range(10))}; "
        f"{sum(state.reordered for state in found)} with writes reordered",
    )
    wrong = [
        f"FAULTS_SEED={state.seed} ({state.protocol} after {state.position} of {state.of} writes"
        f"{', reordered' if state.reordered else ''}): {it}"
        for state in found
        for it in state.wrong
    ]
    assert wrong == []
    assert len(found) == runs * STATES_OF_A_RUN


@NO_FUSE
@on_each(images.KINDS)
async def test_a_file_that_is_moved_is_in_one_of_both_places_after_each_single_write(place: Path, kind: str) -> None:
    found = await collected(place, Moved, "renames", [], [kind])
    assert [moved for moved in found if len(moved.names) != 1] == []
    assert found[-1].names == [NEW]
    assert found[0].names == [OLD]
