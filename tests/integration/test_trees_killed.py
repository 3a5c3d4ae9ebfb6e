"""Killed at any single call to the kernel, a link copy has changed nothing and a removal only has to go on."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from shared.adapters import process
from shared.adapters.filesystem import open_directory
from shared.adapters.trees import link_tree, remove_tree
from tests.support.backups import files_under, must
from tests.support.places import new_place
from tests.support.trees import differences, snapshot_of

REPOSITORY: Final = Path(__file__).parents[2]
NEEDS_STRACE: Final = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
LINK: Final = (
    "import asyncio, os, sys; sys.path.insert(0, sys.argv[1])\n"
    "from shared.adapters.trees import link_tree\n"
    "at = [os.open(path, os.O_RDONLY) for path in sys.argv[2:]]\n"
    "asyncio.run(link_tree(*at))\n"
)
REMOVE: Final = (
    "import asyncio, os, sys; sys.path.insert(0, sys.argv[1])\n"
    "from shared.adapters.trees import remove_tree\n"
    "asyncio.run(remove_tree('tree', at=os.open(sys.argv[2], os.O_RDONLY)))\n"
)


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


def make_small(top: Path) -> None:
    (top / "a/b").mkdir(parents=True)
    (top / "c").mkdir()
    for path in ("a/1", "a/b/2", "c/3", "c/4"):
        (top / path).write_text(path)
    (top / "link").symlink_to("a")
    os.utime(top / "a", ns=(5, 5))


async def killed(call: str, number: int, script: str, *paths: Path) -> bool:
    """Run it, each process being killed at its n-th call of this kind; returns whether it did not get through."""
    argv = [
        "strace",
        "-f",
        "-o",
        "/dev/null",
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:signal=SIGKILL:when={number}",
    ]
    argv += [sys.executable, "-c", script, str(REPOSITORY), *map(str, paths)]
    done = await process.run(argv, timeout_seconds=60)
    if done.returncode != 0:
        assert b"WorkerLost" in done.stderr or done.returncode < 0 or done.returncode == 137, done.said
    return done.returncode != 0


@NEEDS_STRACE
@pytest.mark.parametrize("call", ["linkat", "mkdirat", "fchown", "fchmod", "utimensat", "flistxattr", "getdents64"])
async def test_a_link_copy_killed_at_any_call_leaves_the_source_alone(place: Path, call: str) -> None:
    make_small(place / "source")
    before = snapshot_of(place / "source")
    kills = 0
    for number in range(1, 8):
        target = place / f"target {number}"
        await must("mkdir", str(target))
        kills += await killed(call, number, LINK, place / "source", target)
        assert differences(before, snapshot_of(place / "source")) == []
    assert kills > 0
    with open_directory(place / "source") as old, open_directory(place) as here:
        os.mkdir("fresh", dir_fd=here)
        with open_directory("fresh", at=here) as new:
            await link_tree(old, new)
    assert differences(before, snapshot_of(place / "fresh"), root=False) == []


@NEEDS_STRACE
@pytest.mark.parametrize("call", ["unlinkat", "openat2", "getdents64"])
async def test_a_removal_killed_at_any_call_is_taken_up_again(place: Path, call: str) -> None:
    kills = 0
    for number in range(1, 10):
        make_small(place / "tree")
        left = await killed(call, number, REMOVE, place)
        kills += left
        if left and (place / "tree").exists():
            with open_directory(place) as here:
                await remove_tree("tree", at=here)
        assert files_under(place) == []
    assert kills > 0
