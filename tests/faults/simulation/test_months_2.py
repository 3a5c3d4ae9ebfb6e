"""A quarter of the 300 months that `make faults` simulates; a file stays with one process, so there are four."""

from __future__ import annotations

import pytest

from tests.faults.simulation.test_simulation import found_wrong

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(900)]


@pytest.mark.parametrize("seed", range(2000, 2075))
def test_a_month_of_trouble_breaks_no_promise(seed: int) -> None:
    assert found_wrong(seed) == ""
