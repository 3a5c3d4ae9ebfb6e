"""The suite tests itself: each bug of `seeded/`, put into a copy of this repository, makes the test fail that it names.

A patch says in its first lines what the bug is, which test finds it, and with which seed if that test plays one.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Final

import pytest

from shared.adapters import process
from tests.support.backups import REPOSITORY

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(900)]

PATCHES: Final = {patch: patch.read_text() for patch in sorted((Path(__file__).parent / "seeded").glob("*.patch"))}
COPIED: Final = ("services", "shared", "tests", "pyproject.toml")
TEST_FAILED: Final = 1


def copy_of_the_repository(target: Path) -> None:
    """What the tests need of it."""
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / name)


def named(text: str, what: str) -> str:
    """What a line of the patch says behind `what:`; nothing when there is none."""
    found = re.search(rf"^{what}: (.+)$", text, re.MULTILINE)
    return found[1] if found else ""


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
async def test_the_suite_finds_seeded_bugs(patch: Path, tmp_path: Path) -> None:
    text = PATCHES[patch]
    copy_of_the_repository(tmp_path)
    applied = await process.run(["git", "apply", str(patch)], timeout_seconds=60, cwd=tmp_path)
    assert applied.returncode == 0, f"{patch.name} does not fit any more: {applied.said}"
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "SEED": named(text, "Seed") or "0"}
    argv = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", named(text, "Test")]
    done = await process.run(argv, timeout_seconds=600, env=env, cwd=tmp_path)
    assert done.returncode == TEST_FAILED, f"{patch.name} was not found: {done.said}"


def test_there_are_patches() -> None:
    assert len(PATCHES) >= 5
