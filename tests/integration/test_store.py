"""The drive: recognised before a byte is written, watched while it is written to, and never half done."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, closing
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from shared.adapters import process
from shared.adapters.filesystem import open_directory
from shared.adapters.markers import MARKER_FILE, Marker
from shared.adapters.store import IDENTITY_FILE, Store
from shared.domain.errors import HostBusy, RunFailed, StoreRefused
from shared.domain.events import Job, Quality, SnapshotCompleted
from shared.domain.ids import event_id
from shared.domain.names import HostName, StoreName, snapshot_name
from tests.support.backups import REPOSITORY, Backups, backups, files_under, mounted, must
from tests.support.builders import HOST, MAIN, SLOT, STORE_UUID, a_run, build
from tests.support.places import new_place
from tests.support.trees import differences, snapshot_of

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts and becomes another user")
WITHIN_SECONDS = 20
NAME = snapshot_name(SLOT)


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


@pytest.fixture
def store(place: Path) -> Iterator[Store]:
    with closing(made_store(place / "drive")) as made:
        yield made


def made_store(root: Path, name: str = MAIN, identity: UUID = STORE_UUID) -> Store:
    root.mkdir(exist_ok=True)
    return Store.create(root, StoreName(name), identity)


# Recognising it.


def test_a_store_is_known_by_its_name(store: Store) -> None:
    with closing(Store.open(store.root, MAIN)) as again:
        assert again.identity == store.identity
        assert again.identity.uuid == STORE_UUID
    assert files_under(store.root) == [IDENTITY_FILE]


def test_a_drive_that_is_not_there_is_refused(place: Path) -> None:
    with pytest.raises(StoreRefused, match="cannot be opened") as refused:
        Store.open(place / "drive", MAIN)
    assert "Mount the backup drive" in refused.value.hint
    assert files_under(place) == []


def test_an_empty_mount_point_is_refused_and_stays_empty(place: Path) -> None:
    (place / "drive").mkdir()
    with pytest.raises(StoreRefused, match="is not a store") as refused:
        Store.open(place / "drive", MAIN)
    assert "Is the drive mounted?" in refused.value.hint
    assert files_under(place) == ["drive"]


def test_a_file_is_no_store(place: Path) -> None:
    (place / "drive").write_text("not a folder")
    with pytest.raises(StoreRefused, match="cannot be opened"):
        Store.open(place / "drive", MAIN)
    with pytest.raises(StoreRefused, match="cannot become a store"):
        Store.create(place / "drive", MAIN, STORE_UUID)


def test_another_store_is_refused_by_its_name(place: Path) -> None:
    made_store(place / "drive", "second").close()
    with pytest.raises(StoreRefused, match="is the store 'second', not 'main'"):
        Store.open(place / "drive", MAIN)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"name": "main"}',
        b'{"name": "main", "uuid": "none"}',
        b'{"name": "\xff", "uuid": "6f1c1f6e-6a0e-4e1c-9a3e-0d6b1c1f6e6a"}',
        b'{"name": "main", "uuid": "6f1c1f6e-6a0e-4e1c-9a3e-0d6b1c1f6e6a", "more": 1}',
        b" " * 5_000,
    ],
)
def test_an_identity_that_cannot_be_read_is_refused(store: Store, content: bytes) -> None:
    (store.root / IDENTITY_FILE).write_bytes(content)
    with pytest.raises(StoreRefused, match="cannot be read"):
        Store.open(store.root, MAIN)
    with pytest.raises(StoreRefused, match="cannot be read"):
        store.check()


def test_an_identity_that_is_a_link_or_a_pipe_is_refused(store: Store, place: Path) -> None:
    identity = store.root / IDENTITY_FILE
    identity.rename(place / "elsewhere")
    identity.symlink_to(place / "elsewhere")
    with pytest.raises(StoreRefused, match="cannot be read"):
        Store.open(store.root, MAIN)
    identity.unlink()
    os.mkfifo(identity)
    with pytest.raises(StoreRefused, match="cannot be read"):
        Store.open(store.root, MAIN)


def test_a_drive_that_became_another_one_is_refused(store: Store) -> None:
    content = (store.root / IDENTITY_FILE).read_text().replace(str(STORE_UUID), str(uuid.uuid4()))
    (store.root / IDENTITY_FILE).write_text(content)
    with pytest.raises(StoreRefused, match="has become another store"):
        store.check()
    with pytest.raises(StoreRefused, match="has become another store"):
        store.folder(HOST)
    assert files_under(store.root) == [IDENTITY_FILE]


def test_a_root_that_was_swapped_for_another_folder_is_refused(store: Store, place: Path) -> None:
    store.root.rename(place / "moved")
    with pytest.raises(StoreRefused, match="is gone"):
        store.check()
    shutil.copytree(place / "moved", store.root)
    with pytest.raises(StoreRefused, match="Something else is now mounted"):
        store.folder(HOST)
    assert files_under(store.root) == [IDENTITY_FILE]


@NEEDS_ROOT
@pytest.mark.root
async def test_a_read_only_drive_is_refused(place: Path) -> None:
    async with mounted(place / "drive", "-t", "tmpfs", "tmpfs") as root:
        with closing(made_store(root)) as store:
            store.folder(HOST).__exit__()
            await must("mount", "-o", "remount,ro", str(root))
            for act in (store.check, lambda: store.folder(HOST), lambda: Store.open(root, MAIN)):
                with pytest.raises(StoreRefused, match="is mounted read-only"):
                    act()


@NEEDS_ROOT
@pytest.mark.root
async def test_a_drive_of_somebody_else_is_refused(store: Store, place: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from shared.adapters.store import Store;"
        "from shared.domain.errors import StoreRefused\n"
        "try: Store.open(Path(sys.argv[1]), 'main')\n"
        "except StoreRefused as error: print(error.message)"
    )
    without_rights = ["setpriv", "--inh-caps=-all", "--bounding-set=-dac_override,-dac_read_search"]
    (store.root).chmod(0o755)
    os.chown(store.root, 1000, 1000)
    argv = [*without_rights, "--", sys.executable, "-c", script, str(store.root)]
    done = await process.run(argv, timeout_seconds=WITHIN_SECONDS, cwd=REPOSITORY)
    assert done.stdout.decode() == f"{place}/drive cannot be written by this user.\n", done.said


@pytest.mark.parametrize("held", ["file", "folder/"])
def test_what_holds_anything_does_not_become_a_store(place: Path, held: str) -> None:
    root = place / "drive"
    (root / held).mkdir(parents=True) if held.endswith("/") else root.mkdir()
    (root / held).touch()
    with pytest.raises(StoreRefused, match="is not empty: it holds"):
        Store.create(root, MAIN, STORE_UUID)
    assert not (root / IDENTITY_FILE).exists()


def test_a_fresh_file_system_becomes_a_store_and_a_store_does_not_again(place: Path) -> None:
    (place / "drive/lost+found").mkdir(parents=True)
    made_store(place / "drive").close()
    before = (place / "drive" / IDENTITY_FILE).read_bytes()
    with pytest.raises(StoreRefused):
        Store.create(place / "drive", StoreName("other"), uuid.uuid4())
    assert (place / "drive" / IDENTITY_FILE).read_bytes() == before


def test_only_folders_with_names_of_hosts_are_hosts(store: Store) -> None:
    for name in ("lost+found", "Upper", ".hidden", "hourly", "nas", "web-1"):
        (store.root / name).mkdir()
    (store.root / "file").touch()
    (store.root / "link").symlink_to("nas")
    assert store.hosts() == ["nas", "web-1"]


def test_a_link_in_the_place_of_a_hosts_folder_is_refused(store: Store, place: Path) -> None:
    (place / "elsewhere").mkdir()
    (store.root / HOST).symlink_to(place / "elsewhere")
    with pytest.raises(StoreRefused, match=f"The folder of {HOST} cannot be made"):
        store.folder(HOST)
    assert files_under(place / "elsewhere") == []


def test_a_refused_folder_leaves_no_descriptor_behind(store: Store) -> None:
    (store.root / HOST).mkdir()
    (store.root / HOST / "hourly").write_text("in the way")
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(StoreRefused):
            store.folder(HOST)
    assert sorted(os.listdir("/proc/self/fd")) == before


# Two who want the same host.


def test_a_host_has_one_worker_at_a_time(store: Store) -> None:
    with store.folder(HOST) as folder, folder.locked(Job.SNAPSHOT):
        with store.folder(HOST) as other:
            with pytest.raises(HostBusy, match="snapshot of nas"), other.locked(Job.SNAPSHOT):
                raise AssertionError("two have the lock")
            with other.locked(Job.ARCHIVE):  # another job is another matter
                pass
        with store.folder(HostName("web")) as web, web.locked(Job.SNAPSHOT):
            pass
    with store.folder(HOST) as folder, folder.locked(Job.SNAPSHOT):
        pass


def test_a_link_in_the_place_of_the_lock_is_refused(store: Store, place: Path) -> None:
    with store.folder(HOST) as folder:
        (folder.path / ".locks/snapshot").symlink_to(place / "elsewhere")
        with pytest.raises(OSError, match="snapshot"), folder.locked(Job.SNAPSHOT):
            raise AssertionError("a link was followed")
    assert not (place / "elsewhere").exists()


# Completing a snapshot.


def marker(slot_hours: int = 0, quality: Quality = Quality.COMPLETE) -> Marker:
    """The marker of a run in the hour `slot_hours` after the first."""
    slot = SLOT + timedelta(hours=slot_hours)
    run = a_run(1_000 + slot_hours)
    event = build(SnapshotCompleted, run=run, slot=slot, snapshot=snapshot_name(slot), quality=quality)
    return Marker(event_id(run, 2), event)


def make_partial(store: Store, wanted: Marker) -> Path:
    """The finished tree of a run, without a marker."""
    with store.folder(HOST) as folder:
        partial = folder.make_partial(wanted.event.run)
        (partial / "home").mkdir()
        (partial / "home/file").write_text(f"content of {wanted.event.snapshot}")
        return partial


def complete(store: Store, wanted: Marker) -> Path:
    make_partial(store, wanted)
    with store.folder(HOST) as folder:
        folder.complete(wanted.event.run, wanted)
        return folder.path / "hourly" / wanted.event.snapshot


def names(store: Store) -> list[str]:
    with store.folder(HOST) as folder:
        return [snapshot.name for snapshot in folder.snapshots()]


def links(store: Store) -> tuple[str | None, str | None]:
    with store.folder(HOST) as folder:
        return folder.link_target("current"), folder.link_target("latest")


def test_a_completed_run_is_a_snapshot_and_the_newest(store: Store) -> None:
    for hour in range(3):
        complete(store, marker(hour))
    assert names(store) == ["2026-03-06_0800", "2026-03-06_0900", "2026-03-06_1000"]
    assert links(store) == ("hourly/2026-03-06_1000", "hourly/2026-03-06_1000")
    with store.folder(HOST) as folder:
        assert [snapshot.marker for snapshot in folder.snapshots()] == [marker(hour) for hour in range(3)]
        assert folder.has_snapshot(NAME)
        assert not folder.has_snapshot(snapshot_name(SLOT + timedelta(hours=9)))
        assert folder.remove_partials() == 0


def test_current_is_complete_and_latest_is_usable(store: Store) -> None:
    complete(store, marker(0))
    complete(store, marker(1, Quality.DEGRADED))
    complete(store, marker(2, Quality.SUSPECT))
    assert links(store) == ("hourly/2026-03-06_0800", "hourly/2026-03-06_0900")
    complete(store, marker(3))
    assert links(store) == ("hourly/2026-03-06_1100", "hourly/2026-03-06_1100")


def test_a_run_that_comes_late_does_not_turn_the_links_back(store: Store) -> None:
    complete(store, marker(5))
    complete(store, marker(1))
    assert links(store) == ("hourly/2026-03-06_1300", "hourly/2026-03-06_1300")


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling link"])
def test_a_marker_that_is_there_already_is_refused(store: Store, place: Path, kind: str) -> None:
    wanted = marker()
    forged = make_partial(store, wanted) / MARKER_FILE
    match kind:
        case "file":
            forged.write_bytes(msgspec.json.encode(wanted))
        case "folder":
            forged.mkdir()
        case "link":
            (place / "elsewhere").write_text("untouched")
            forged.symlink_to(place / "elsewhere")
        case _:
            forged.symlink_to(place / "elsewhere")
    with store.folder(HOST) as folder, pytest.raises(FileExistsError):
        folder.complete(wanted.event.run, wanted)
    assert names(store) == []
    assert links(store) == (None, None)
    if kind == "link":
        assert (place / "elsewhere").read_text() == "untouched"
    elif kind == "dangling link":
        assert not (place / "elsewhere").exists()


@pytest.mark.parametrize("kind", ["a snapshot", "an empty folder", "a file", "a dangling link"])
def test_a_name_that_is_taken_is_refused_and_nothing_is_lost(store: Store, kind: str) -> None:
    wanted = marker()
    with store.folder(HOST) as folder:
        target = folder.path / "hourly" / NAME
    match kind:
        case "a snapshot":
            complete(store, wanted)
        case "an empty folder":
            target.mkdir()
        case "a file":
            target.write_text("somebody's")
        case _:
            target.symlink_to("nowhere")
    before = snapshot_of(target.parent)
    partial = make_partial(store, wanted)
    with store.folder(HOST) as folder, pytest.raises(FileExistsError):
        folder.complete(wanted.event.run, wanted)
    assert differences(before, snapshot_of(target.parent)) == []
    assert (partial / "home/file").read_text() == f"content of {NAME}"


def test_a_partial_tree_is_never_used_twice(store: Store) -> None:
    make_partial(store, marker())
    with store.folder(HOST) as folder, pytest.raises(FileExistsError):
        folder.make_partial(marker().event.run)


def test_what_dead_runs_left_is_removed_and_nothing_else(store: Store) -> None:
    kept = complete(store, marker(0))
    for hour in (1, 2):
        make_partial(store, marker(hour))
    (store.root / HOST / ".partial-of-a-person-who-likes-dots").mkdir()
    (store.root / HOST / "notes").write_text("a person's")
    with store.folder(HOST) as folder:
        assert folder.remove_partials() == 3
        assert folder.remove_partials() == 0
    assert (kept / "home/file").exists()
    assert (store.root / HOST / "notes").exists()


def test_foreign_names_among_the_snapshots_are_ignored(store: Store) -> None:
    real = complete(store, marker())
    hourly = real.parent
    (hourly / "lost+found").mkdir()
    (hourly / "notes.txt").write_text("a person's")
    (hourly / "2026-02-30_0800").mkdir()
    (hourly / "2026-03-06_0900").write_text("a file with the name of a snapshot")
    (hourly / "2026-03-06_1000").symlink_to(NAME)
    shutil.copytree(real, hourly / "2026-03-06_1100")  # its marker is another snapshot's
    shutil.copytree(real, hourly / "2026-03-06_0800.bak")
    (hourly / "2026-03-06_1200").mkdir()
    (hourly / "\udcff\n").mkdir()
    assert names(store) == [NAME]
    with store.folder(HOST) as folder:
        folder.point_links()
    assert links(store) == (f"hourly/{NAME}", f"hourly/{NAME}")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes()[1:]),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"complete"', b'"splendid"')),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"main"', b'"\xff\xfe"')),
        lambda path: path.write_bytes(path.read_bytes().replace(b"2026-03-06_0800", b"2026-03-06_0900")),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"files":300', b'"files":"300"')),
        lambda path: path.write_bytes(b"\0" * 4096),
        lambda path: path.write_bytes(b"[" * 100_000),
        lambda path: path.write_bytes(b" " * 2_000_000),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.rename(path.with_name("real")), path.symlink_to("real")),
        lambda path: (path.unlink(), os.mkfifo(path)),  # type: ignore[func-returns-value]  # for its effect
        lambda path: path.unlink(),
    ],
    ids=[
        "empty", "cut at its end", "cut at its beginning", "an unknown quality", "not utf-8", "of another snapshot",
        "a text for a number", "zeros", "nested too deep", "too long", "a folder", "a link", "a pipe", "gone",
    ],
)  # fmt: skip
def test_a_snapshot_with_a_spoilt_marker_is_not_complete_and_the_others_are(
    store: Store, spoil: Callable[[Path], object]
) -> None:
    complete(store, marker(1))
    spoilt = complete(store, marker(0))
    assert len(names(store)) == 2
    spoil(spoilt / MARKER_FILE)
    assert names(store) == ["2026-03-06_0900"]
    with store.folder(HOST) as folder:
        assert not folder.has_snapshot(NAME)


COMPLETER = """
import os, sys
from pathlib import Path
import msgspec
from shared.adapters.store import Marker, Store
from shared.domain.names import HostName
store = Store.open(Path(sys.argv[1]), "main")
marker = msgspec.json.decode(sys.argv[2], type=Marker)
folder = store.folder(HostName("nas"))
os.access("/from-here-on", os.F_OK)
folder.complete(marker.event.run, marker)
"""
WRITING = "fsync,fdatasync,renameat2,rename,renameat,symlink,symlinkat,unlink,unlinkat,openat,access,fchmod"
NEEDS_STRACE = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


async def complete_in_a_process(store: Store, wanted: Marker, *options: str) -> process.Finished:
    """Complete a run under strace."""
    argv = ["strace", *options, sys.executable, "-c", COMPLETER, str(store.root), msgspec.json.encode(wanted).decode()]
    return await process.run(argv, timeout_seconds=60, cwd=REPOSITORY)


@NEEDS_STRACE
async def test_the_marker_is_durable_before_the_name_and_the_name_before_the_links(store: Store, place: Path) -> None:
    complete(store, marker(0))
    make_partial(store, marker(1))
    done = await complete_in_a_process(store, marker(1), "-y", "-e", f"trace={WRITING}", "-o", str(place / "trace"))
    assert done.returncode == 0, done.said
    partial, hourly, host = f".partial-{marker(1).event.run}>", "/nas/hourly>", "/drive/nas>"
    wanted = [
        ("openat", MARKER_FILE),
        ("fsync", f"{MARKER_FILE}>"),
        ("fsync", partial),
        ("renameat2", "RENAME_NOREPLACE"),
        ("fsync", host),
        ("fsync", hourly),
        ("symlinkat", "hourly/2026-03-06_0900"),
        ("renameat", '"current"'),
        ("fsync", host),
        ("renameat", '"latest"'),
        ("fsync", host),
    ]
    lines = iter((place / "trace").read_text().partition("/from-here-on")[2].splitlines())
    for call, about in wanted:
        assert any(line.startswith(f"{call}(") and about in line for line in lines), (call, about)


@NEEDS_STRACE
@pytest.mark.parametrize(
    ("call", "number"),
    [
        *(("fsync", number) for number in range(1, 7)),
        ("fchmod", 1),
        ("renameat2", 1),
        ("symlinkat", 1),
        ("renameat", 1),
        ("symlinkat", 2),
        ("renameat", 2),
    ],
)
async def test_wherever_it_is_killed_it_is_a_snapshot_or_none(store: Store, call: str, number: int) -> None:
    first = complete(store, marker(0))
    before = snapshot_of(first)
    make_partial(store, marker(1))
    killing = f"inject={call}:signal=SIGKILL:when={number}"
    done = await complete_in_a_process(store, marker(1), "-qq", "-e", f"trace={call}", "-e", killing)
    assert done.returncode == -signal.SIGKILL, done.said

    found = names(store)
    assert found in ([NAME], [NAME, "2026-03-06_0900"])
    for name in found:
        assert (first.parent / name / "home/file").read_text() == f"content of {name}"
    for link in links(store):
        assert link is not None
        assert link.removeprefix("hourly/") in found
    assert differences(before, snapshot_of(first)) == []
    # Whoever comes next clears up, and finds it done or does it again.
    with store.folder(HOST) as folder:
        folder.remove_partials()
        folder.point_links()
    if len(found) == 1:
        complete(store, marker(1))
    assert names(store) == [NAME, "2026-03-06_0900"]
    assert links(store) == ("hourly/2026-03-06_0900",) * 2
    assert sorted(os.listdir(store.root / HOST)) == sorted(
        [".locks", ".spool", ".trash", "archives", "current", "hourly", "latest", "monthly"]
    )


# A drive that goes away while it is being written to.


@pytest.fixture
async def removable(place: Path) -> AsyncIterator[Backups]:
    """A host with a slow file, and a drive that is mounted where it can be taken away."""
    async with AsyncExitStack() as stack:
        drive = await stack.enter_async_context(mounted(place / "drive", "-t", "tmpfs", "tmpfs"))
        backup = await stack.enter_async_context(backups(place, drive=drive))
        (backup.source / "home/file").write_text("content")
        await backup.take()
        (backup.source / "home/slow").write_bytes(os.urandom(2_000_000))
        backup.host = backup.with_host(bandwidth_limit_kib=2_000)
        yield backup


async def transferring(backup: Backups) -> None:
    async with asyncio.timeout(WITHIN_SECONDS):
        while not any(backup.folder.glob(".partial-*/home/.slow.*")):  # noqa: ASYNC110  # rsync tells nobody
            await asyncio.sleep(0.005)


@NEEDS_ROOT
@pytest.mark.root
async def test_a_drive_that_is_unmounted_meanwhile_leaves_nothing_below_its_mount_point(removable: Backups) -> None:
    run = asyncio.create_task(removable.take())
    await transferring(removable)
    await must("umount", "-l", str(removable.store.root))
    assert files_under(removable.store.root) == []
    with pytest.raises(StoreRefused, match=r"Something else is now mounted|is gone"):
        await run
    assert files_under(removable.store.root) == []
    with pytest.raises(StoreRefused):
        await removable.take()
    with pytest.raises(StoreRefused, match="is not a store"):
        Store.open(removable.store.root, MAIN)
    assert files_under(removable.store.root) == []


@NEEDS_ROOT
@pytest.mark.root
@pytest.mark.parametrize("identity", ["its own", "the same"])
async def test_a_drive_that_is_mounted_in_its_place_gets_nothing(
    removable: Backups, place: Path, identity: str
) -> None:
    """Not even when it calls itself the same and has a folder of the same host."""
    root = removable.store.root
    run = asyncio.create_task(removable.take())
    await transferring(removable)
    async with mounted(place / "another", "-t", "tmpfs", "tmpfs") as another:
        name = removable.store.identity
        with closing(made_store(another, name.name, uuid.uuid4() if identity == "its own" else name.uuid)) as made:
            made.folder(HOST).__exit__()
        async with mounted(root, "--bind", str(another)):
            before = snapshot_of(another)
            with pytest.raises(StoreRefused, match="Something else is now mounted"):
                await run
            with pytest.raises(StoreRefused):
                await removable.take()
            assert differences(before, snapshot_of(another)) == []
    # The first drive, back in its place, holds what it held, and goes on.
    assert len(removable.snapshots()) == 1
    assert removable.leftovers() == []
    removable.host = removable.with_host(bandwidth_limit_kib=None)
    assert (await removable.take()).completed.quality is Quality.COMPLETE


EXT4_IOC_SHUTDOWN = 0x8004587D
WITHOUT_FLUSHING = (2).to_bytes(4, sys.byteorder)


@NEEDS_ROOT
@pytest.mark.root
@pytest.mark.skipif(shutil.which("mkfs.ext4") is None, reason="mkfs.ext4 is not installed")
async def test_a_drive_that_fails_meanwhile_fails_the_run_and_keeps_what_was_complete(place: Path) -> None:
    """Everything that was not on the drive at that moment is lost, as in a power cut."""
    image, drive = place / "image", place / "drive"
    await must("truncate", "-s", "64M", str(image))
    await must("mkfs.ext4", "-q", str(image))
    async with mounted(drive, "-o", "loop", str(image)), backups(place, drive=drive) as backup:
        (backup.source / "home/file").write_text("content")
        good = await backup.take()
        kept = snapshot_of(good.path)
        (backup.source / "home/slow").write_bytes(os.urandom(4_000_000))
        run = asyncio.create_task(backup.take(host=backup.with_host(bandwidth_limit_kib=2_000)))
        await transferring(backup)
        fcntl.ioctl(backup.store.descriptor, EXT4_IOC_SHUTDOWN, WITHOUT_FLUSHING)
        with pytest.raises((RunFailed, StoreRefused, OSError)):
            await run
    async with mounted(drive, "-o", "loop", str(image)):
        with closing(Store.open(drive, MAIN)) as store:
            assert names(store) == [good.completed.snapshot]
            assert links(store) == (f"hourly/{good.completed.snapshot}",) * 2
        assert differences(kept, snapshot_of(good.path)) == []


@NEEDS_ROOT
@pytest.mark.root
async def test_a_full_drive_fails_the_run_and_costs_no_older_snapshot(place: Path) -> None:
    async with (
        mounted(place / "drive", "-t", "tmpfs", "-o", "size=2m", "tmpfs") as drive,
        backups(place, drive=drive) as b,
    ):
        (b.source / "home/file").write_text("content")
        good = await b.take()
        kept = snapshot_of(good.path)
        (b.source / "home/large").write_bytes(os.urandom(4_000_000))
        with pytest.raises(RunFailed) as failed:
            await b.take()
        assert "the backup drive is full" in failed.value.message
        assert not failed.value.transient
        assert "nothing was deleted to make room" in failed.value.hint
        assert differences(kept, snapshot_of(good.path)) == []
        assert b.snapshots() == [good.completed.snapshot]
        assert b.leftovers() == []
        (b.source / "home/large").unlink()
        assert (await b.take()).completed.quality is Quality.COMPLETE


async def test_a_base_that_is_being_removed_is_not_shared_with(place: Path) -> None:
    async with backups(place, transport="local") as backup:
        (backup.source / "home/file").write_text("content")
        good = await backup.take()
        with open_directory(good.path.parent) as hourly:
            lock = await exclusive(good.path.name, hourly)
            try:
                with pytest.raises(RunFailed) as failed:
                    await backup.take()
            finally:
                os.close(lock)
        assert failed.value.code == "base_busy"
        assert failed.value.transient
        assert backup.leftovers() == []
        assert (await backup.take()).completed.base == good.completed.snapshot


async def exclusive(name: str, folder: int) -> int:
    """The lock that only one who removes a snapshot has."""
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor
