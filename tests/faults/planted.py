"""Bugs that are planted on purpose: each of `seeded/`, put into a copy of this repository, must make a test fail.

A patch says in its first lines what the bug is, which test finds it (`Test:`), and with which seeds if that test
plays some (`Seed:`).
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from shared.adapters import process
from shared.adapters.process import Finished
from shared.adapters.threads import in_thread
from tests.support.backups import REPOSITORY
from tests.support.places import new_place

SEEDED: Final = Path(__file__).parent / "seeded"
FILES: Final = 4
"""So many test files share the patches: a file stays with one process, and each bug takes some seconds."""

COPIED: Final = ("services", "shared", "tests", "deploy", "pyproject.toml")
IN_THE_MAKING: Final = "*.pyc.*"
TEST_FAILED: Final = 1
PLANT_IT_ANEW: Final = (
    "Make the same mistake by hand in today's code, and put the output of `git diff -U1` below the patch's first lines."
)


def patches(part: int | None = None) -> list[Path]:
    """All patches, or those of one of the test files."""
    found = sorted(SEEDED.glob("*.patch"))
    return found if part is None else found[part::FILES]


def named(patch: Path, what: str) -> str:
    """What a line of the patch says behind `what:`; nothing when there is none."""
    found = re.search(rf"^{what}: (.+)$", patch.read_text(), re.MULTILINE)
    return found[1] if found else ""


async def why_not_found(patch: Path) -> str:
    """Plant a bug in a copy of the repository, and run the test that should find it; why it did not, or nothing."""
    with new_place() as place:
        await in_thread(_copy_repository, place)
        return await _why_not_found(patch, place)


async def _why_not_found(patch: Path, place: Path) -> str:
    applied = await process.run(["git", "apply", str(patch)], timeout_seconds=60, cwd=place)
    if applied.returncode != 0:
        return f"{patch.name} does not fit any more: {applied.said} {PLANT_IT_ANEW}"
    test = named(patch, "Test")
    done = await run_pytest(["-x", test], place, seed=named(patch, "Seed"))
    if done.returncode == 0 and b" passed" not in done.stdout:
        pytest.skip(f"{test} is skipped here: {_why_skipped(done.stdout)}")
    if done.returncode != TEST_FAILED or f"FAILED {test}".encode() not in done.stdout:
        return f"{patch.name} was not found by {test}: {done.stdout.decode(errors='replace')[-2000:]} {done.said}"
    return ""


def _why_skipped(said: bytes) -> str:
    found = re.search(rb"^SKIPPED (.+)$", said, re.MULTILINE)
    return found[1].decode(errors="replace") if found else "it does not say why"


async def run_pytest(words: Sequence[str], place: Path, *, seed: str = "") -> Finished:
    """Run tests of a copy of the repository. The test that plays seeds is only there when there is one."""
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), "SEED": seed or "0"}
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    return await process.run(argv, timeout_seconds=600, env=env, cwd=place)


def _copy_repository(target: Path) -> None:
    """What the tests need of it, and what is compiled already: its times come along, so it still holds."""
    for name in COPIED:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, target / name, symlinks=True, ignore=shutil.ignore_patterns(IN_THE_MAKING))
        else:
            shutil.copy2(source, target / name)
