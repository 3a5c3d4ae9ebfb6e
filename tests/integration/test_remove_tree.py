"""Removing a tree: all of it, and nothing but it, whatever lies in it and whenever it was interrupted."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.adapters import process
from shared.adapters.filesystem import MAX_OPEN_DEPTH, open_directory, remove_tree
from tests.support.backups import files_under, mounted, must
from tests.support.places import new_place

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts and becomes another user")
REPOSITORY = Path(__file__).parents[2]
NOBODY = 65534


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


def remove(path: Path) -> int:
    with open_directory(path.parent) as parent:
        return remove_tree(path.name, at=parent)


def as_nobody(act: Callable[[], None]) -> None:
    """Do something in a process of an ordinary user; as such a user, do it here."""
    if os.geteuid() != 0:
        act()
        return
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            act()
        except BaseException:  # noqa: BLE001  # this process ends here, whatever happened
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_everything_goes_and_is_counted(place: Path) -> None:
    tree = place / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/file").write_text("x")
    (tree / "a/b/\udcff\n").write_text("x")
    (tree / "link").symlink_to("a")
    os.mkfifo(tree / "fifo")
    assert remove(tree) == 7
    assert files_under(place) == []


def test_links_are_removed_and_not_followed(place: Path) -> None:
    (place / "outside/folder").mkdir(parents=True)
    (place / "outside/folder/file").write_text("precious")
    tree = place / "tree"
    tree.mkdir()
    (tree / "to a folder").symlink_to(place / "outside")
    (tree / "to a file").symlink_to(place / "outside/folder/file")
    (tree / "upwards").symlink_to("..")
    (tree / "loop").symlink_to("loop")
    (tree / "hard").hardlink_to(place / "outside/folder/file")
    remove(tree)
    assert files_under(place) == ["outside", "outside/folder", "outside/folder/file"]
    assert (place / "outside/folder/file").read_text() == "precious"


def test_a_link_in_the_place_of_the_tree_is_refused(place: Path) -> None:
    (place / "outside").mkdir()
    (place / "outside/file").write_text("precious")
    (place / "tree").symlink_to("outside")
    with pytest.raises(OSError, match="tree") as refused:
        remove(place / "tree")
    assert refused.value.errno in {errno.ELOOP, errno.ENOTDIR}
    assert files_under(place) == ["outside", "outside/file", "tree"]


@NEEDS_ROOT
@pytest.mark.root
@pytest.mark.parametrize("depth", [0, 2, MAX_OPEN_DEPTH + 3])
@pytest.mark.parametrize("kind", ["another file system", "a folder of the same one"])
async def test_what_is_mounted_inside_stops_it_and_stays(place: Path, depth: int, kind: str) -> None:
    """A clean-up that crossed a mount once deleted what was on the other side."""
    outside = place / "outside"
    outside.mkdir()
    (outside / "sentinel").write_text("precious")
    target = place / "tree" / "/".join(["deeper"] * depth) / "mounted"
    target.mkdir(parents=True)
    arguments = ["-t", "tmpfs", "tmpfs"] if kind == "another file system" else ["--bind", str(outside)]
    async with mounted(target, *arguments):
        (target / "sentinel").write_text("precious")
        with pytest.raises(OSError, match=r".") as refused:
            remove(place / "tree")
        assert refused.value.errno in {errno.EXDEV, errno.EBUSY}
        # Deep down the folders around it may have been moved up; the mount went with them.
        (found,) = (place / "tree").rglob("sentinel")
        assert found.read_text() == "precious"
        await must("umount", str(found.parent))
    assert remove(place / "tree") >= 2
    assert (outside / "sentinel").read_text() == "precious"


def make_deep(top: Path, depth: int) -> int:
    """A chain of folders with a file in each, longer than any path may be; returns how many entries."""
    top.mkdir()
    descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(depth):
        os.mkdir("deeper", dir_fd=descriptor)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
        below = os.open("deeper", os.O_RDONLY | os.O_DIRECTORY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    return 2 * depth + 1


def test_two_thousand_levels_are_removed_with_few_descriptors(place: Path) -> None:
    import resource

    made = make_deep(place / "tree", 2_000)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_OPEN_DEPTH + 100, limits[1]))
    try:
        assert remove(place / "tree") == made
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert files_under(place) == []


def test_names_like_our_own_do_not_stand_in_the_way(place: Path) -> None:
    """Deep folders are moved to the top for a while; a host may have put names there that look the same."""
    tree = place / "tree"
    tree.mkdir()
    for number in range(20):  # in some of them the deep folders come first, in others the names
        make_deep(tree / f"{number}", MAX_OPEN_DEPTH + 5)
    for folder in [folder for folder, _, _ in os.walk(tree) if folder.count("/deeper") > MAX_OPEN_DEPTH - 3]:
        taken = tree / f".deep-{Path(folder).stat().st_ino}"
        taken.mkdir()
        (taken / "occupied").write_text("x")
    assert remove(tree) > 40 * MAX_OPEN_DEPTH
    assert files_under(place) == []


def test_a_hundred_thousand_entries_are_removed(place: Path) -> None:
    make_wide(place / "tree", folders=100, files=1_000)
    before = len(os.listdir("/proc/self/fd"))
    assert remove(place / "tree") == 100_101
    assert len(os.listdir("/proc/self/fd")) == before
    assert files_under(place) == []


def make_wide(top: Path, *, folders: int, files: int) -> None:
    """Many small files; beyond the first they are links to it, which are quicker to make."""
    top.mkdir()
    for number in range(folders):
        folder = top / f"{number:03}"
        folder.mkdir()
        (folder / "0").touch()
        with open_directory(folder) as descriptor:
            for name in range(1, files):
                os.link("0", str(name), src_dir_fd=descriptor, dst_dir_fd=descriptor)


@NEEDS_ROOT
@pytest.mark.root
@pytest.mark.parametrize("mode", [0o000, 0o100, 0o200, 0o300, 0o400, 0o500, 0o555])
def test_an_ordinary_user_removes_folders_that_he_may_not_write(place: Path, mode: int) -> None:
    """A backup that is not run by root has the modes of the host all the same."""
    place.chmod(0o777)

    def make_and_remove() -> None:
        tree = place / "tree"
        (tree / "a/b").mkdir(parents=True)
        (tree / "a/b/file").write_text("x")
        make_deep(tree / "deep", MAX_OPEN_DEPTH + 5)
        folders = [Path(folder) for folder, _, _ in os.walk(tree)]
        for folder in reversed(folders):
            folder.chmod(mode)
        remove(tree)

    as_nobody(make_and_remove)
    assert files_under(place) == []


@NEEDS_ROOT
@pytest.mark.root
async def test_an_ordinary_user_leaves_the_mode_of_what_is_mounted_inside(place: Path) -> None:
    await must("chmod", "0777", str(place))
    as_nobody(lambda: (place / "tree/mounted").mkdir(parents=True))

    def try_to_remove() -> None:
        with pytest.raises(OSError, match="mounted") as refused:
            remove(place / "tree")
        assert refused.value.errno == errno.EXDEV

    options = f"uid={NOBODY},gid={NOBODY},mode=0500"
    async with mounted(place / "tree/mounted", "-t", "tmpfs", "-o", options, "tmpfs") as target:
        as_nobody(try_to_remove)
        assert target.stat().st_mode & 0o777 == 0o500


async def test_what_was_killed_in_the_middle_is_taken_up_again(place: Path) -> None:
    make_wide(place / "tree", folders=150, files=200)
    script = (
        "import os, sys\n"
        "from shared.adapters.filesystem import remove_tree\n"
        "remove_tree('tree', at=os.open(sys.argv[1], os.O_RDONLY))\n"
    )
    async with await process.start([sys.executable, "-c", script, str(place)], cwd=REPOSITORY) as remover:
        while len(os.listdir(place / "tree")) > 140:  # busy, because it is over in a moment
            pass
        remover.send_signal(signal.SIGKILL)
        assert await remover.wait() == -signal.SIGKILL
    left = len(files_under(place / "tree"))
    assert 0 < left < 150 * 201
    assert remove(place / "tree") == left + 1
    assert files_under(place) == []
