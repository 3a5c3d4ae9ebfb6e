"""Removing a tree by several processes: the same promises as one keeps, whoever is killed when."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings

from shared.adapters import filesystem, process, tree_worker, trees
from shared.adapters.drive_use import OthersSync
from shared.adapters.filesystem import FileLock, open_directory
from shared.adapters.trees import WorkerLost, remove_tree
from shared.domain.errors import HostBusy
from tests.support.backups import files_under, mounted
from tests.support.places import new_place
from tests.support.shapes import Shape, make_deep, make_skewed, make_wide, plant, shapes

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts and becomes another user")
REPOSITORY = Path(__file__).parents[2]
NOBODY = 65534


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


async def remove(path: Path, *, processes: int = 2) -> int:
    with open_directory(path.parent) as parent:
        return await remove_tree(path.name, at=parent, processes=processes)


def workers() -> list[int]:
    """The processes that this one started to work on a tree and that are still there."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    found = []
    for pid in children:
        try:
            if b"tree_worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
        except FileNotFoundError:
            continue
    return found


@pytest.mark.parametrize("processes", [1, 2, 4])
async def test_everything_goes_and_is_counted(place: Path, processes: int) -> None:
    made = make_skewed(place / "tree")
    (place / "tree" / os.fsdecode(b"odd \xff\n")).mkdir()
    os.mkfifo(place / "tree" / os.fsdecode(b"odd \xff\n") / "fifo")
    assert await remove(place / "tree", processes=processes) == made + 2
    assert files_under(place) == []
    assert workers() == []


async def test_an_empty_directory_goes(place: Path) -> None:
    (place / "tree").mkdir()
    assert await remove(place / "tree") == 1
    assert files_under(place) == []


async def test_links_are_removed_and_not_followed(place: Path) -> None:
    (place / "outside/folder").mkdir(parents=True)
    (place / "outside/folder/file").write_text("precious")
    (place / "tree").mkdir()
    (place / "tree/to a folder").symlink_to(place / "outside")
    (place / "tree/upwards").symlink_to("..")
    (place / "tree/hard").hardlink_to(place / "outside/folder/file")
    await remove(place / "tree")
    assert files_under(place) == ["outside", "outside/folder", "outside/folder/file"]


async def test_a_link_in_the_place_of_the_tree_is_refused(place: Path) -> None:
    (place / "outside").mkdir()
    (place / "outside/file").write_text("precious")
    (place / "tree").symlink_to("outside")
    with pytest.raises(OSError, match="tree"):
        await remove(place / "tree")
    assert files_under(place) == ["outside", "outside/file", "tree"]


async def test_thousands_of_levels_are_removed_with_few_descriptors(place: Path) -> None:
    import resource

    made = make_deep(place / "tree", 3_000, beside=True)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (filesystem.MAX_OPEN_DEPTH + 100, limits[1]))
    try:
        assert await remove(place / "tree") == made
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert files_under(place) == []


async def test_a_very_large_folder_is_removed(place: Path) -> None:
    made = make_wide(place / "tree", folders=1, files=60_000)
    assert await remove(place / "tree") == made


@NEEDS_ROOT
@pytest.mark.root
@pytest.mark.parametrize("depth", [0, 2, filesystem.MAX_OPEN_DEPTH + 3])
@pytest.mark.parametrize("kind", ["another file system", "a folder of the same one"])
async def test_what_is_mounted_inside_stops_it_and_stays(place: Path, depth: int, kind: str) -> None:
    (place / "outside").mkdir()
    (place / "outside/sentinel").write_text("precious")
    target = place / "tree" / "/".join(["deeper"] * depth) / "mounted"
    target.mkdir(parents=True)
    arguments = ["-t", "tmpfs", "tmpfs"] if kind == "another file system" else ["--bind", str(place / "outside")]
    async with mounted(target, *arguments):
        (target / "sentinel").write_text("precious")
        with pytest.raises(OSError, match=r".") as refused:
            await remove(place / "tree")
        assert refused.value.errno in {errno.EXDEV, errno.EBUSY}
        (found,) = (place / "tree").rglob("sentinel")
        assert found.read_text() == "precious"
    assert await remove(place / "tree") >= 2
    assert (place / "outside/sentinel").read_text() == "precious"


@NEEDS_ROOT
@pytest.mark.root
async def test_a_mounted_tree_is_refused(place: Path) -> None:
    (place / "outside").mkdir()
    (place / "outside/sentinel").write_text("precious")
    async with mounted(place / "tree", "--bind", str(place / "outside")):
        with pytest.raises(OSError, match="tree") as refused:
            await remove(place / "tree")
    assert refused.value.errno == errno.EXDEV
    assert (place / "outside/sentinel").read_text() == "precious"


@NEEDS_ROOT
@pytest.mark.root
@pytest.mark.parametrize("mode", [0o000, 0o555])
def test_an_ordinary_user_removes_folders_that_he_may_not_write(place: Path, mode: int) -> None:
    """The worker runs in a fork here, because the interpreter may lie where such a user may not go."""
    make_skewed(place / "tree")
    make_deep(place / "tree/deep", filesystem.MAX_OPEN_DEPTH + 5)
    make_closed(place / "tree", mode)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(30)
    child = os.fork()
    if child == 0:
        ours.close()
        become_nobody_and_remove(place / "tree", theirs.detach())
    theirs.close()
    folders, given = [b""], 0
    while folders:
        ours.send(tree_worker.WORK + folders.pop())
        ours.send(tree_worker.GIVE)
        while (said := ours.recv(2 * tree_worker.MESSAGE_BYTES))[:1] == tree_worker.GIVEN:
            folders.append(said[1:])
            given += 1
        assert said[:1] == tree_worker.IDLE, said
    ours.close()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert given > 0
    assert files_under(place / "tree") == []


def make_closed(top: Path, mode: int) -> None:
    """Give a tree to an ordinary user, with folders of this mode."""
    for folder, _, names in os.walk(top, topdown=False):
        for name in names:
            os.chown(Path(folder) / name, NOBODY, NOBODY, follow_symlinks=False)
        os.chown(folder, NOBODY, NOBODY)
        if folder != str(top):  # that one has been opened when a worker is started
            Path(folder).chmod(mode)


def become_nobody_and_remove(tree: Path, line: int) -> None:
    try:
        top = os.open(tree, os.O_RDONLY)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        tree_worker.main(["remove", str(line), str(top)])
    except SystemExit as end:
        os._exit(0 if end.code == 0 else 2)
    except BaseException:  # noqa: BLE001  # this process ends here, whatever happened
        traceback.print_exc()
    os._exit(1)


@NEEDS_ROOT
@pytest.mark.root
async def test_an_entry_that_cannot_go_is_named(place: Path) -> None:
    make_skewed(place / "tree")
    stuck = place / "tree/thin 3/stuck"
    stuck.touch()
    if (await process.run(["chattr", "+i", str(stuck)], timeout_seconds=10)).returncode != 0:
        pytest.skip("this file system has no immutable files")
    try:
        with pytest.raises(PermissionError, match="stuck") as refused:
            await remove(place / "tree")
        assert refused.value.filename == "thin 3/stuck"
    finally:
        await process.run(["chattr", "-i", str(stuck)], timeout_seconds=10)
    await remove(place / "tree")
    assert files_under(place) == []


@pytest.mark.parametrize("left", [190, 150, 80, 10])
async def test_killed_anywhere_it_is_taken_up_again(place: Path, left: int) -> None:
    make_wide(place / "tree", folders=200, files=150)
    script = (
        "import asyncio, os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from shared.adapters.trees import remove_tree\n"
        "asyncio.run(remove_tree('tree', at=os.open(sys.argv[2], os.O_RDONLY)))\n"
    )
    argv = [sys.executable, "-c", script, str(REPOSITORY), str(place)]
    async with await process.start(argv) as remover:
        while len(os.listdir(place / "tree")) > left:  # busy, because it is over in a moment
            pass
        os.kill(remover.pid, signal.SIGKILL)  # only it: the others have to notice
        assert await remover.wait() == -signal.SIGKILL
        await nobody_works_on(place / "tree")
    remaining = len(files_under(place / "tree"))
    assert 0 < remaining < 200 * 151
    assert await remove(place / "tree") == remaining + 1
    assert files_under(place) == []


async def nobody_works_on(tree: Path) -> None:
    """Wait until no process has the tree open."""
    with open_directory(tree) as descriptor:
        about = os.fstat(descriptor)
    await until(lambda: not any(is_open(descriptor, about) for descriptor in Path("/proc").glob("[0-9]*/fd/*")))


async def until(reached: Callable[[], bool]) -> None:
    """Wait for what nobody announces."""
    async with asyncio.timeout(20):
        while not reached():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def has_left(tree: Path, entries: int) -> None:
    """Wait until a tree that is being removed has at most so many entries at its top."""
    await until(lambda: len(os.listdir(tree)) <= entries)


def is_open(descriptor: Path, about: os.stat_result) -> bool:
    try:
        return os.path.samestat(descriptor.stat(), about)
    except OSError:
        return False


async def test_a_worker_that_is_killed_ends_it_all(place: Path) -> None:
    make_wide(place / "tree", folders=200, files=150)
    removing = asyncio.create_task(remove(place / "tree"))
    await has_left(place / "tree", 190)
    os.kill(workers()[1], signal.SIGKILL)
    with pytest.raises(WorkerLost):
        await removing
    assert workers() == []
    await remove(place / "tree")


async def test_what_a_worker_says_last_is_heard(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it ends with something unread, the kernel reports that first and what it said afterwards."""
    words = "import os, sys, _socket as s; line = s.socket(fileno=int(sys.argv[3])); line.recv(99)\n"
    words += f"line.recv(99, s.MSG_PEEK)\nwhile not os.path.exists({str(place / 'deaf')!r}): pass\n"
    words += f"line.send(b'e31 the name'); line.close(); os.mkdir({str(place / 'gone')!r})"
    monkeypatch.setattr(trees, "BOOT", words)
    (place / "tree").mkdir()

    def busy() -> bool:
        """From the second time on nobody listens here until it has gone."""
        if (place / "asked").exists():
            (place / "deaf").touch()
            while not (place / "gone").exists():
                pass
        (place / "asked").touch()
        return False

    with open_directory(place) as here, pytest.raises(OSError, match="the name") as refused:
        await remove_tree("tree", at=here, busy=busy)
    assert refused.value.errno == errno.EMLINK


async def test_a_worker_that_is_to_wait_waits_until_it_may_go_on() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        line = tree_worker.Line(theirs.detach())
        ours.send(tree_worker.WAIT)
        passing = asyncio.create_task(asyncio.to_thread(line.passed, tree_worker.LISTEN_ENTRIES))
        await asyncio.wait([passing], timeout=0.2)
        assert not passing.done()
        ours.send(tree_worker.GIVE)
        ours.send(tree_worker.SLOW)
        async with asyncio.timeout(5):
            assert await passing  # and it heard meanwhile that it is to give something away
        line._socket.close()  # a worker's process just ends


async def test_a_cancelled_removal_leaves_no_process(place: Path) -> None:
    make_wide(place / "tree", folders=300, files=200)
    before = len(os.listdir("/proc/self/fd"))
    removing = asyncio.create_task(remove(place / "tree"))
    await has_left(place / "tree", 280)
    started = time.monotonic()
    removing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await removing
    assert time.monotonic() - started < 2
    assert workers() == []
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(os.listdir(place / "tree")) > 0


async def test_the_processes_hold_the_lock_that_they_inherit(place: Path) -> None:
    make_wide(place / "tree", folders=300, files=200)
    with open_directory(place) as here:
        lock = FileLock.acquire("lock", at=here, wanted_by="this")
        removing = asyncio.create_task(remove_tree("tree", at=here, pass_fds=[lock.descriptor]))
        await has_left(place / "tree", 290)
        lock.release()
        with pytest.raises(HostBusy):
            FileLock.acquire("lock", at=here, wanted_by="this")
        await removing
        FileLock.acquire("lock", at=here, wanted_by="this").release()


async def test_on_a_busy_drive_one_process_works_and_the_others_wait(place: Path) -> None:
    """Whoever is made to wait keeps his folders: he is let go on when the one at work has nothing left."""
    made = make_wide(place / "tree", folders=300, files=200)
    used: list[dict[int, int]] = []

    def busy() -> bool:
        used.append({pid: ticks(pid) for pid in workers()})
        return True

    with open_directory(place) as here:
        assert await remove_tree("tree", at=here, processes=3, busy=busy) == made
    assert len(used) > 3
    # Nothing was ever given away, so the two others have only started.
    assert sorted(used[-1].values())[1] <= 5 < max(used[-1].values())
    assert files_under(place) == []


def ticks(pid: int) -> int:
    """The processor time of a process, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


@pytest.mark.parametrize("pattern", [0b0101, 0b0011, 0b1110])
async def test_a_drive_that_is_busy_on_and_off_loses_nothing(place: Path, pattern: int) -> None:
    made = make_skewed(place / "tree") + make_wide(place / "tree/wide", folders=100, files=300)
    asked = 0

    def busy() -> bool:
        nonlocal asked
        asked += 1
        return bool(pattern >> asked % 4 & 1)

    with open_directory(place) as here:
        assert await remove_tree("tree", at=here, processes=3, busy=busy) == made


@NEEDS_ROOT
@pytest.mark.root
async def test_somebody_who_syncs_makes_a_drive_busy(place: Path) -> None:
    from tests.bench.drive import JOURNALLED, fresh_drive

    async with fresh_drive(place, "drive") as drive:
        if drive.kind != JOURNALLED:
            pytest.skip("no drive can be mounted here")
        with open_directory(drive.path) as top, (drive.path / "file").open("wb", buffering=0) as file:
            await drive.settle()
            ask = OthersSync(top)
            assert ask()  # nothing is known yet
            assert not ask()
            for _ in range(20):
                file.write(b"x")
                os.fsync(file.fileno())
            assert ask()
            assert ask()  # and for a while


def test_where_nobody_counts_a_drive_is_busy(place: Path) -> None:
    with open_directory("/proc") as top:
        ask = OthersSync(top)
        assert [ask(), ask(), ask()] == [True, True, True]


def test_partitions_and_what_lies_over_them_are_known_by_their_disks(tmp_path: Path) -> None:
    """Only the counters of whole disks say anything, and a disk without a cache is never flushed."""
    about = tmp_path.stat().st_dev
    for disk, cache in (("sda", "write back"), ("sdb", "write back")):
        (tmp_path / disk / f"{disk}1").mkdir(parents=True)
        (tmp_path / disk / f"{disk}1/partition").touch()
        (tmp_path / disk / "queue").mkdir()
        (tmp_path / disk / "queue/write_cache").write_text(f"{cache}\n")
        (tmp_path / disk / "stat").write_text(" 0" * 15 + " 5 0\n")
    (tmp_path / "dm-0/slaves").mkdir(parents=True)
    for disk in ("sda", "sdb"):
        (tmp_path / f"dm-0/slaves/{disk}1").symlink_to(tmp_path / disk / f"{disk}1")
    (tmp_path / f"{os.major(about)}:{os.minor(about)}").symlink_to(tmp_path / "dm-0")
    with open_directory(tmp_path) as top:
        ask = OthersSync(top, devices=tmp_path)
        assert [ask(), ask()] == [True, False]
        (tmp_path / "sdb/stat").write_text(" 0" * 15 + " 11 0\n")
        assert ask()
        (tmp_path / "sdb/queue/write_cache").write_text("write through\n")
        blind = OthersSync(top, devices=tmp_path)
        assert [blind(), blind()] == [True, True]


@given(shape=shapes())
@settings(max_examples=25, deadline=None)
def test_any_tree_goes_as_by_one_process(shape: Shape) -> None:
    with new_place() as place:
        made = plant(place / "tree", shape)
        assert plant(place / "other", shape) == made
        with open_directory(place) as here:
            assert filesystem.remove_tree("other", at=here) == made
            assert asyncio.run(remove_tree("tree", at=here)) == made
        assert files_under(place) == []
