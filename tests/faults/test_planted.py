"""The bugs that are planted are known by what they say of themselves, and each names a test that there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tests.faults.planted import FILES, named, patches, run_pytest
from tests.support.backups import REPOSITORY

LEAST: Final = 24


async def test_every_named_test_is_there() -> None:
    tests = sorted({named(patch, "Test") for patch in patches()})
    found = await run_pytest(["--collect-only", *tests], REPOSITORY)
    why = f"{found.stdout.decode(errors='replace')[-2000:]} {found.said}"
    assert found.returncode == 0, f"A patch of tests/faults/seeded names a test that is not there: {why}"


def test_each_patch_says_what_it_is_and_which_test_finds_it() -> None:
    for patch in patches():
        what, empty, *_ = patch.read_text().splitlines()
        assert what.endswith("."), patch.name
        assert empty == "", patch.name
        assert re.fullmatch(r"tests/\S+\.py::test_\w+", named(patch, "Test")), patch.name


def test_there_are_enough_and_none_is_left_out() -> None:
    assert len(patches()) >= LEAST
    assert sorted(patch for part in range(FILES) for patch in patches(part)) == patches()
    assert len(list(Path(__file__).parent.glob("test_seeded_bugs_*.py"))) == FILES
