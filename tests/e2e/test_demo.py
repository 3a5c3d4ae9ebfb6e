"""`make demo ARGS=--once`, as a newcomer runs it."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from services.cli.demo_change import change_home
from services.cli.demo_home import build_home
from shared.adapters import process
from tests.support.trees import differences, inodes, snapshot_of

ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}


def excluded(path: bytes) -> bool:
    return b"/.cache" in path


async def test_demo_makes_two_snapshots_that_equal_the_source_of_their_time(place: Path) -> None:
    folder = place / "demo"
    before = set(os.listdir(tempfile.gettempdir()))
    done = await process.run(
        [sys.executable, "-m", "services.cli", "demo", "--once", "--folder", str(folder)],
        timeout_seconds=200,
        env=ENVIRONMENT | {"PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=place,
    )
    assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
    first, second = sorted((folder / "drive/demo/hourly").iterdir())

    # The generator is deterministic, so the first source can be made again and compared with what was kept of it.
    again = place / "again"
    build_home(again)
    expected = snapshot_of(again / "home", exclude=excluded)
    assert differences(expected, snapshot_of(first / "home")) == []
    change_home(again)
    expected = snapshot_of(again / "home", exclude=excluded)
    assert differences(expected, snapshot_of(second / "home")) == []
    assert differences(expected, snapshot_of(folder / "source/home", exclude=excluded)) == []

    assert_shares_exactly_what_did_not_change(first / "home", second / "home")
    assert (folder / "drive/demo/current").readlink() == Path("hourly") / second.name
    leftovers = {name for name in set(os.listdir(tempfile.gettempdir())) - before if name.startswith("backup-")}
    assert {name for name in leftovers if name != place.name and "ssh" in name} == set()
    assert "Stopped. Nothing is left running." in done.stdout.decode()


def assert_shares_exactly_what_did_not_change(first: Path, second: Path) -> None:
    old, new = snapshot_of(first), snapshot_of(second)
    old_inodes, new_inodes = inodes(first), inodes(second)
    both = old_inodes.keys() & new_inodes.keys()
    assert len(both) > 1900
    for path in both:
        same = old.entries[path] == new.entries[path]
        assert (old_inodes[path] == new_inodes[path]) == same, path
    assert sum(old_inodes[path] != new_inodes[path] for path in both) >= 20
