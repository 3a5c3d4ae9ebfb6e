"""What is named is backed up: patterns keep out what lies in it, never the way to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.snapshotter.rsync import Ability, arguments, ways_to
from shared.adapters import process
from shared.config import DEFAULT_EXCLUDES

PLAIN = Ability(version="any", insecure_links=False, confined=False, attributes=False, acls=False)


async def copied(source: str, destination: Path) -> set[str]:
    """What a real rsync takes of a source under the default excludes."""
    argv = arguments(
        ability=PLAIN,
        token="t ",
        sources=[source],
        destination=f"{destination}/",
        excludes=DEFAULT_EXCLUDES,
        base=None,
        shell=None,
        bandwidth_limit_kib=None,
    )
    done = await process.run(argv, timeout_seconds=30)
    assert done.returncode == 0, done.said
    return files_in(destination)


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("named", ["tmp/home", "home/alice/Pictures", "dev/my [best] *project", "logs"])
async def test_a_named_path_is_never_excluded_and_what_lies_in_it_is(tmp_path: Path, named: str) -> None:
    source, destination = tmp_path / "source", tmp_path / "destination"
    (source / named / "Pictures").mkdir(parents=True)
    (source / named / "kept.txt").write_text("kept")
    (source / named / "Pictures" / "left-out.jpg").write_text("left out")
    (source / named / "left-out.log").write_text("left out")
    (source / Path(named).parts[0] / "beside.txt").write_text("not named")
    destination.mkdir()
    expected = {f"{named}/kept.txt"} | ({f"{named}/beside.txt"} if "/" not in named else set())
    assert await copied(f"{source}/./{named}", destination) == expected


def test_the_way_to_a_source_is_spelled_out_from_the_mark_on() -> None:
    assert ways_to("web:/srv/./home/alice") == ["/home", "/home/alice"]
    assert ways_to(":/./logs/x/") == ["/logs", "/logs/x"]
    assert ways_to("/source/./a[b]*/c\\d") == ["/a\\[b]\\*", "/a\\[b]\\*/c\\d"]
