"""The numbers of a run's steps: of two facts with one id the log keeps the first and takes the second for a resend."""

from __future__ import annotations

from types import ModuleType

import pytest

import services.archiver.steps
import services.restorer.steps
import services.retention.steps
import services.snapshotter.steps
from shared.domain.ids import MAX_STEP

SERVICES = [services.archiver, services.restorer, services.retention, services.snapshotter]


def numbers(steps: ModuleType) -> dict[str, int]:
    return {name: value for name, value in vars(steps).items() if isinstance(value, int)}


@pytest.mark.parametrize("steps", [service.steps for service in SERVICES], ids=lambda steps: steps.__name__)
def test_no_two_steps_of_a_run_have_one_number(steps: ModuleType) -> None:
    found = numbers(steps)
    assert len(set(found.values())) == len(found) >= 5
    assert all(0 < number <= MAX_STEP for number in found.values())
    # Whatever tells how far a run is counts on from there, for as long as it takes.
    assert found.get("FIRST_PROGRESS", MAX_STEP) == max([*found.values(), found.get("FIRST_PROGRESS", MAX_STEP)])
