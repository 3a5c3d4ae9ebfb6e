"""What each service can do to the files of a drive, tried by processes that are confined as the services are."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from shared.adapters import process
from shared.adapters.confinement import version
from shared.adapters.store import HostFolder
from shared.domain.names import StoreName
from tests.support.backups import REPOSITORY
from tests.support.builders import SLOT
from tests.support.places import new_place
from tests.support.stock import put_archive, put_golden, put_snapshot, stocked

DENIED = "EACCES"

pytestmark = pytest.mark.skipif(version() == 0, reason="this kernel has no Landlock")


@pytest.fixture
def folder() -> Iterator[HostFolder]:
    with new_place() as place, stocked(place / "drive") as folder:
        put_snapshot(folder, SLOT)
        put_archive(folder, SLOT)
        put_golden(folder, SLOT, "2026-03")
        yield folder


async def tried(folder: HostFolder, service: str, *actions: tuple[str, str]) -> list[str]:
    """What came of the actions; paths are those in the folder of the host."""
    words = [word for action, path in actions for word in (action, str(folder.path / path))]
    argv = [sys.executable, "-m", "tests.support.held_back", service, str(folder.path.parents[1]), *words]
    done = await process.run(argv, timeout_seconds=60, cwd=REPOSITORY)
    assert done.returncode == 0, done.said
    return done.stdout.decode().splitlines()


def snapshot(folder: HostFolder) -> str:
    return f"hourly/{folder.snapshots()[0].name}"


def archive(folder: HostFolder) -> str:
    (found,) = (folder.path / "archives").glob("*.tar.gz")
    return f"archives/{found.name}"


@pytest.mark.parametrize("service", ["archiver", "restorer", "scheduler", "api"])
async def test_only_the_snapshotter_and_retention_can_touch_a_snapshot(folder: HostFolder, service: str) -> None:
    there = snapshot(folder)
    file = f"{there}/home/alice/a.txt"
    actions = ("rewrite", "shorten", "remove", "move away", "link", "remove by a program")
    assert await tried(folder, service, *((action, file) for action in actions)) == [DENIED] * len(actions)
    marker = f"{there}/.snapshot_complete"
    others = (("remove", marker), ("move away", there), ("make", f"{there}/new"), ("make folder", "hourly/forged"))
    assert await tried(folder, service, *others) == [DENIED] * len(others)
    assert await tried(folder, service, ("read", file)) == ["done"]


@pytest.mark.parametrize("service", ["restorer", "scheduler", "api"])
async def test_nobody_else_can_touch_archives_and_golden_copies(folder: HostFolder, service: str) -> None:
    packed = archive(folder)
    actions = (("remove", packed), ("rewrite", packed), ("make", "archives/new"), ("remove all", "monthly/2026-03"))
    assert await tried(folder, service, *actions) == [DENIED] * len(actions)


async def test_the_archiver_can_make_archives_and_golden_copies_and_empties_no_trash(folder: HostFolder) -> None:
    (folder.path / ".trash/run").mkdir()
    actions = (("make", "archives/new"), ("make folder", "monthly/new"), ("make", ".locks/archive"))
    assert await tried(folder, "archiver", *actions) == ["done"] * len(actions)
    assert await tried(folder, "archiver", ("remove all", ".trash/run"), ("make", "new")) == [DENIED, DENIED]


async def test_what_a_golden_copy_shares_with_a_snapshot_cannot_be_written_there(folder: HostFolder) -> None:
    file = f"{snapshot(folder)}/home/alice/a.txt"
    actions = (("link into golden copies", file), ("rewrite", "monthly/linked"), ("shorten", "monthly/linked"))
    assert await tried(folder, "archiver", *actions) == ["done", DENIED, DENIED]
    assert (folder.path / file).read_text() == "hello"
    assert await tried(folder, "archiver", ("remove", "monthly/linked"), ("make", "monthly/new")) == ["done", DENIED]


async def test_retention_can_move_and_remove_on_the_drive_and_nowhere_else(folder: HostFolder) -> None:
    outside = folder.path.parents[1] / "outside"
    outside.write_text("not of the drive")
    there = snapshot(folder)
    assert await tried(folder, "retention", ("move away", there), ("remove by a program", "moved")) == ["done", "done"]
    assert await tried(folder, "retention", ("remove", str(outside)), ("rewrite", str(outside))) == [DENIED, DENIED]


async def test_the_restorer_can_write_where_restores_go(folder: HostFolder) -> None:
    restored = folder.path.parents[1] / "data" / "restored"
    assert await tried(folder, "restorer", ("make", str(restored / "new"))) == ["done"]


async def test_what_is_confined_stays_so_for_whatever_it_starts(folder: HostFolder) -> None:
    there = snapshot(folder)
    assert await tried(folder, "api", ("remove by a program", there)) == [DENIED]
    assert folder.snapshots() != []


@pytest.mark.parametrize("service", ["archiver", "retention", "restorer"])
async def test_what_holds_for_one_drive_holds_for_each(folder: HostFolder, service: str) -> None:
    place = folder.path.parents[1]
    with stocked(place / "second", store_name=StoreName("second")) as other:
        put_snapshot(other, SLOT)
        file = f"{snapshot(other)}/home/alice/a.txt"
        mine = [str(kept.path / ".locks" / "new") for kept in (folder, other)]
        may = "done" if service == "retention" else DENIED
        made = await tried(folder, service, *(("make", path) for path in mine), ("rewrite", str(other.path / file)))
        assert made == ["done", "done", may]
