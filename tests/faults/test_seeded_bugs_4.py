"""A quarter of the bugs that are planted; a file stays with one process, so there are four."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.planted import patches, why_not_found

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(900)]


@pytest.mark.parametrize("patch", patches(3), ids=lambda patch: patch.stem)
async def test_the_suite_finds_seeded_bugs(patch: Path) -> None:
    assert await why_not_found(patch) == ""
