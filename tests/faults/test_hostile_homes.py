"""A home full of what no home should be full of: it is kept, byte for byte, or left out and counted; and goes again."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from shared.adapters import filesystem
from shared.adapters.filesystem import open_directory
from shared.adapters.markers import MARKER_FILE
from shared.domain.events import Quality
from shared.domain.names import HostName
from tests.support.backups import Backups, Taken, backups
from tests.support.builders import SLOT
from tests.support.places import new_place
from tests.support.stock import put_snapshot
from tests.support.trees import differences, snapshot_of

NEEDS_ROOT: Final = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
LINKS: Final = 30_000
EMPTY_FILES: Final = int(os.environ.get("EMPTY_FILES", "100000"))
FORGED: Final = (".snapshot_complete", ".files.zst", ".changes.jsonl.zst", ".partial-x", ".trash", ".locks", "hourly")
SPECIALS: Final = {b"home/fifo", b"home/socket", b"home/null", b"home/disk"}


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


@pytest.fixture
async def backup(place: Path) -> AsyncIterator[Backups]:
    async with backups(place) as made:
        yield made


def home(backup: Backups) -> Path:
    return backup.source / "home"


def left_out(path: bytes) -> bool:
    return b"home/" + path in SPECIALS


def assert_kept(backup: Backups, taken: Taken) -> None:
    assert differences(snapshot_of(home(backup), exclude=left_out), taken.tree) == []


def make_specials(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as made:
        directory = os.open(folder, os.O_RDONLY)
        made.bind(f"/proc/self/fd/{directory}/socket")
        os.close(directory)
    os.mknod(folder / "null", 0o20666, os.makedev(1, 3))
    os.mknod(folder / "disk", 0o60666, os.makedev(7, 0))


def make_links(folder: Path) -> None:
    for number, target in enumerate(["/etc/shadow", "/", "..", "../" * 60, ".", "loop", "/proc/self/root", "x" * 4095]):
        (folder / f"link-{number}").symlink_to(target)
    (folder / "loop").symlink_to("loop")


def make_privileged(folder: Path) -> None:
    for name, mode in (("setuid", 0o4755), ("setgid", 0o2755), ("sticky", 0o1777), ("nothing", 0o000)):
        (folder / name).write_text(name)
        (folder / name).chmod(mode)
    (folder / "locked").mkdir()
    (folder / "locked/inside").write_text("inside")
    (folder / "locked").chmod(0o000)


def make_deep(folder: Path) -> bytes:
    """A path of 4,096 bytes and more below the home, which nobody can name at once."""
    at = os.open(folder, os.O_RDONLY)
    name = b"d" * 200
    for _ in range(19):
        os.mkdir(name, dir_fd=at)
        below = os.open(name, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open(b"f" * 200, os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=at))
    os.close(at)
    return name


@NEEDS_ROOT
@pytest.mark.root
async def test_what_is_odd_is_kept_and_what_is_no_file_is_left_out_and_counted(backup: Backups) -> None:
    make_specials(home(backup))
    make_links(home(backup))
    make_privileged(home(backup))
    first = await backup.take()
    assert_kept(backup, first)
    assert first.completed.skipped_specials == len(SPECIALS)
    assert first.completed.quality is Quality.COMPLETE
    second = await backup.take()
    assert_kept(backup, second)
    assert (second.path / "home/setuid").stat().st_ino == (first.path / "home/setuid").stat().st_ino
    assert SPECIALS.isdisjoint(b"home/" + path for path in second.tree.entries)
    assert stat.S_IMODE((second.path / "home/setuid").stat().st_mode) == 0o4755
    remove(first)


def remove(taken: Taken) -> None:
    """What was made can be removed again, and nothing else goes with it."""
    with open_directory(taken.path.parent) as parent:
        assert filesystem.remove_tree(taken.path.name, at=parent) > 0
    assert not taken.path.exists()
    assert Path("/etc/passwd").exists()


async def test_forged_markers_forge_nothing(backup: Backups) -> None:
    """Neither in the home nor at the top of what is backed up, as files, as folders or as links."""
    good = await backup.take()
    marker = (good.path / MARKER_FILE).read_bytes()
    for name in FORGED:
        (home(backup) / name).write_bytes(marker)
    (backup.source / MARKER_FILE).write_bytes(marker)
    host = backup.with_host(paths=(f"{backup.source}/./",))
    taken = await backup.take(host=host)
    assert taken.completed.snapshot != good.completed.snapshot
    with backup.store.folder(backup.host.name) as folder:
        kept = {found.name: found.marker.event.run for found in folder.snapshots()}
    assert kept == {good.completed.snapshot: good.completed.run, taken.completed.snapshot: taken.completed.run}
    for name in FORGED:
        assert (taken.path / "home" / name).read_bytes() == marker
    assert (taken.path / MARKER_FILE).read_bytes() != marker


async def test_paths_longer_than_any_name_are_kept_or_told(backup: Backups) -> None:
    make_deep(home(backup))
    (home(backup) / "beside").write_text("beside")
    with backup.store.folder(HostName("neighbour")) as neighbour:
        put_snapshot(neighbour, SLOT)
    before = snapshot_of(backup.store.root / "neighbour")
    try:
        taken = await backup.take()
    except Exception as error:
        raise AssertionError(f"one long path keeps the whole home from being backed up: {error}") from error
    if taken.completed.quality is Quality.COMPLETE:
        assert_kept(backup, taken)
    else:
        assert taken.completed.warnings
    assert (taken.path / "home/beside").read_text() == "beside"
    assert differences(before, snapshot_of(backup.store.root / "neighbour")) == []
    remove(taken)


@pytest.mark.campaign
async def test_thirty_thousand_names_of_one_file_are_copied_anew_when_the_file_system_has_enough_of_them(
    backup: Backups,
) -> None:
    (home(backup) / "0").write_text("one file")
    for number in range(1, LINKS):
        os.link(home(backup) / "0", home(backup) / str(number))
    wanted = snapshot_of(home(backup))
    taken = [await backup.take() for _ in range(3)]
    for one in taken:
        assert differences(wanted, one.tree) == []
        assert (one.path / "home/0").stat().st_nlink % LINKS == 0
    assert len({(one.path / "home/0").stat().st_ino for one in taken}) == 2  # 65,000 names of one file, and no more
    assert any("links" in warning for warning in taken[2].completed.warnings)


@pytest.mark.campaign
async def test_very_many_empty_files(backup: Backups) -> None:
    for folder in range(EMPTY_FILES // 2_000):
        (home(backup) / str(folder)).mkdir()
        for number in range(2_000):
            os.mknod(home(backup) / str(folder) / str(number))
    first = await backup.take()
    second = await backup.take()
    assert first.completed.files == second.completed.files == EMPTY_FILES // 2_000 * 2_000
    assert second.completed.transferred_files == 0
    assert (second.path / "home/7/77").stat().st_ino == (first.path / "home/7/77").stat().st_ino


async def test_ten_times_the_size_of_yesterday_is_kept_whole(backup: Backups) -> None:
    for number in range(10):
        (home(backup) / f"a{number}").write_bytes(os.urandom(20_000))
    await backup.take()
    for number in range(90):
        (home(backup) / f"b{number}").write_bytes(os.urandom(20_000))
    grown = await backup.take()
    assert grown.completed.quality is Quality.COMPLETE
    assert_kept(backup, grown)
    assert grown.completed.transferred_files == 90
