"""A restore: what it makes is the snapshot, and what goes wrong is said and never looks finished."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from services.restorer import to_folder, transfer
from shared.adapters.filesystem import open_directory, shared_lock
from shared.adapters.markers import FILES_FILE
from shared.adapters.postgres import EventLog
from shared.domain.events import (
    RestoreAbandoned,
    RestoreCancelled,
    RestoreCompleted,
    RestoreFailed,
    RestoreRequested,
    RestoreStarted,
)
from shared.runtime.worker import Done, RetryIn
from tests.support.backups import backups, mounted
from tests.support.places import new_place
from tests.support.restoring import Restoring, restoring
from tests.support.servers import BOUND_SECONDS
from tests.support.trees import differences, snapshot_of

pytestmark = pytest.mark.timeout(BOUND_SECONDS)
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


@pytest.fixture
async def host(place: Path, log: EventLog) -> AsyncIterator[Restoring]:
    async with backups(place) as backup, restoring(backup, log) as made:
        yield made


def as_snapshot(host: Restoring, tree: Path, within: str = "home") -> list[str]:
    """How a restored tree differs from the same folder of the snapshot."""
    return differences(snapshot_of(host.taken.path / within), snapshot_of(tree), owners=os.geteuid() == 0)


async def test_everything_comes_back_as_it_was(host: Restoring) -> None:
    done = await host.restored()
    assert isinstance(done, RestoreCompleted), done
    (tree,) = map(Path, done.places)
    assert tree.parent == host.folder
    assert as_snapshot(host, tree / "home") == []
    assert os.listdir(tree) == ["home"]
    assert (tree.stat().st_mode & 0o777) == 0o700
    assert (done.verified_files, done.checked_files) == (done.files, done.files)
    assert (tree / "home/alice/sparse").stat().st_blocks * 512 < 1024 * 1024
    assert (await host.state()).restores[str(done.restore)].outcome == "completed"
    assert [type(event) for event in await host.events(done.restore)] == [
        RestoreRequested,
        RestoreStarted,
        RestoreCompleted,
    ]


async def test_a_part_comes_back_under_its_own_path(host: Restoring) -> None:
    done = await host.restored(paths=("home/alice/letters/%FF%FE not utf-8", "home/alice/locked", "home/alice/outside"))
    assert isinstance(done, RestoreCompleted), done
    alice = Path(done.places[0], "home/alice")
    assert sorted(os.listdir(os.fsencode(alice))) == [b"letters", b"locked", b"outside"]
    assert os.listdir(os.fsencode(alice / "letters")) == [b"\xff\xfe not utf-8"]
    assert as_snapshot(host, alice / "locked", "home/alice/locked") == []
    assert (alice / "outside").is_symlink()
    assert (done.files, done.directories) == (2, 1)


async def test_waiting_restores_are_done_one_after_the_other_by_one_tick(host: Restoring) -> None:
    first, second = await host.ask(paths=("home/alice/letters",)), await host.ask(paths=("home/alice/locked",))
    assert await host.work() == Done()
    assert isinstance((await host.events(first))[-1], RestoreCompleted)
    assert isinstance((await host.events(second))[-1], RestoreCompleted)
    assert len(host.names()) == 2
    before = await host.events()
    assert await host.work() == Done()
    assert await host.events() == before


async def test_a_damaged_list_of_files_ends_it_with_a_sentence_and_what_came_back_stays(host: Restoring) -> None:
    (host.taken.path / FILES_FILE).write_bytes(b"no longer what it was")
    failed = await host.restored()
    assert isinstance(failed, RestoreFailed), failed
    assert (failed.code, failed.final) == ("list", True)
    assert "is damaged" in failed.message
    assert "another restore point" in failed.hint
    assert [Path(place).name for place in failed.left] == host.names()
    assert [name.startswith(".partial-") for name in host.names()] == [True]


async def test_no_link_is_followed_in_the_snapshot(host: Restoring) -> None:
    for path in ("home/alice/outside/untouched", "home/alice/nothing", "home/alice/locked/secret/x"):
        failed = await host.restored(paths=(path,))
        assert isinstance(failed, RestoreFailed)
        assert failed.code == "path"
        assert ("symbolic link" in failed.message) == ("outside" in path)
    assert host.names() == []


async def test_no_link_is_followed_to_the_target(host: Restoring) -> None:
    host.folder.mkdir(parents=True)
    (host.folder / "away").symlink_to(host.backup.place / "outside")
    failed = await host.restored(folder=str(host.folder / "away"))
    assert isinstance(failed, RestoreFailed)
    assert "a symbolic link" in failed.message
    host.folder.rename(host.folder.with_name("moved"))
    host.folder.symlink_to(host.backup.place / "outside")
    failed = await host.restored()
    assert isinstance(failed, RestoreFailed)
    assert "a symbolic link" in failed.message
    assert os.listdir(host.backup.place / "outside") == ["untouched"]


@NEEDS_ROOT
@pytest.mark.root
async def test_nothing_is_restored_into_the_backups_by_whatever_way(place: Path, log: EventLog) -> None:
    async with (
        backups(place) as backup,
        restoring(backup, log, restore_folders=(str(place / "bound"),)) as host,
        mounted(place / "bound", "--bind", str(backup.store.root / "nas")),
    ):
        before = snapshot_of(backup.store.root / "nas" / "hourly")
        failed = await host.restored()
        assert isinstance(failed, RestoreFailed)
        # By its path it is elsewhere; that the drive is the same is seen by what is there.
        assert "BACKUP_ROOT" in failed.message
        assert differences(before, snapshot_of(backup.store.root / "nas" / "hourly")) == []


@NEEDS_ROOT
@pytest.mark.root
@pytest.mark.parametrize("megabytes", [1, 14])
async def test_a_full_drive_fails_it_and_leaves_nothing(place: Path, log: EventLog, megabytes: int) -> None:
    async with (
        backups(place) as backup,
        mounted(place / "small", "-t", "tmpfs", "-o", "size=16m", "tmpfs"),
    ):
        (backup.source / "home").mkdir(exist_ok=True)
        (backup.source / "home" / "noise").write_bytes(os.urandom(15 * 1024 * 1024))
        async with restoring(backup, log, restore_folders=(str(place / "small"),)) as host:
            if megabytes > 10:  # it looks as if it would fit, until it does not
                host.taken.path.joinpath("home/noise").stat()
                host.restorer.settings = host.settings
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(to_folder, "_check_room", lambda *_: None)
                    (place / "small" / "taken").write_bytes(bytes(megabytes * 1024 * 1024))
                    failed = await host.restored()
            else:
                (place / "small" / "taken").write_bytes(bytes(megabytes * 1024 * 1024))
                failed = await host.restored()
            assert isinstance(failed, RestoreFailed)
            assert failed.code == "no_room"
            assert ("does not fit" in failed.message) or ("no room left" in failed.message)
            assert failed.left == ()
            assert host.names() == ["taken"]


@pytest.mark.parametrize("side", ["the copy", "the snapshot"])
async def test_a_flipped_byte_is_found_wherever_it_is(
    host: Restoring, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    victim = "home/alice/letters/one.txt"
    move = transfer.move

    def flip(path: Path) -> None:
        about, content = path.stat(), bytearray(path.read_bytes())
        content[3] ^= 1
        path.write_bytes(bytes(content))
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))

    async def moved_and_flipped(*args: object, **kwargs: object) -> None:
        await move(*args, **kwargs)  # type: ignore[arg-type]  # as it was called
        (partial,) = host.folder.iterdir()
        flip(partial / victim)

    if side == "the copy":
        monkeypatch.setattr(to_folder, "move", moved_and_flipped)
    else:
        flip(host.taken.path / victim)
    failed = await host.restored()
    assert isinstance(failed, RestoreFailed)
    assert (failed.code, failed.final) == ("differs", True)
    assert victim in failed.message
    (left,) = failed.left
    assert host.names() == [Path(left).name]
    assert Path(left).name.startswith(".partial-")


DIFFERENCES: Final = {
    "mode": "letters/run me (mode)",
    "time": "letters/-rf (time)",
    "time of a folder": "home/alice/empty (time)",
    "link target": "home/alice/dangling (time); home/alice/dangling (link target)",
    "missing": "letters/-rf (missing)",
    "more": "letters/more (is not in the restore point)",
    "attribute": "home/alice/the same letter (extended attributes)",
    "hard link": "names of one file became several files",
}


def change(tree: Path, what: str) -> None:
    letters = tree / "home/alice/letters"
    match what:
        case "mode":
            (letters / "run me").chmod(0o755)
        case "time":
            os.utime(letters / "-rf", ns=(1, 2))
        case "time of a folder":
            os.utime(tree / "home/alice/empty", ns=(1, 2))
        case "link target":
            (tree / "home/alice/dangling").unlink()
            (tree / "home/alice/dangling").symlink_to("/elsewhere")
        case "missing":
            (letters / "-rf").unlink()
        case "more":
            (letters / "more").write_text("")
        case "attribute":
            os.removexattr(letters / "one.txt", "user.comment")
        case "hard link":
            about, content = (letters / "and again").stat(), (letters / "and again").read_bytes()
            (letters / "and again").unlink()
            (letters / "and again").write_bytes(content)
            (letters / "and again").chmod(about.st_mode & 0o7777)
            if os.geteuid() == 0:
                os.chown(letters / "and again", about.st_uid, about.st_gid)
            os.setxattr(letters / "and again", "user.comment", b"\x00binary\xff")
            os.utime(letters / "and again", ns=(about.st_atime_ns, about.st_mtime_ns))


async def test_every_kind_of_difference_is_found(host: Restoring, monkeypatch: pytest.MonkeyPatch) -> None:
    move, what = transfer.move, ""

    async def moved_and_changed(*args: object, **kwargs: object) -> None:
        await move(*args, **kwargs)  # type: ignore[arg-type]  # as it was called
        partial = max(host.folder.iterdir(), key=lambda path: path.name)
        kept = {path: path.stat() for path in [partial / "home/alice/letters", partial / "home/alice"]}
        change(partial, what)
        for path, about in kept.items():
            os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))

    monkeypatch.setattr(to_folder, "move", moved_and_changed)
    for what, says in DIFFERENCES.items():
        failed = await host.restored()
        assert isinstance(failed, RestoreFailed), what
        assert failed.code == "differs"
        assert says in failed.message, what


async def test_a_cancel_stops_it_and_says_what_lies_where(host: Restoring, monkeypatch: pytest.MonkeyPatch) -> None:
    under_way = asyncio.Event()

    async def endless(*_: object, **__: object) -> None:
        under_way.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(to_folder, "move", endless)
    restore = await host.ask()
    working = asyncio.create_task(host.work())
    await asyncio.wait_for(under_way.wait(), 20)
    host.cancels.call_off("bob")
    assert await working == Done()
    cancelled = (await host.events(restore))[-1]
    assert isinstance(cancelled, RestoreCancelled)
    assert cancelled.by == "bob"
    assert [Path(left).name for left in cancelled.left] == host.names()
    assert host.names()[0].startswith(".partial-")


async def test_a_worker_that_is_stopped_leaves_the_request_to_the_next(
    host: Restoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way = asyncio.Event()

    async def endless(*_: object, **__: object) -> None:
        under_way.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(to_folder, "move", endless)
        restore = await host.ask()
        working = asyncio.create_task(host.work())
        await asyncio.wait_for(under_way.wait(), 20)
        working.cancel()
        await asyncio.wait({working})
    assert isinstance((await host.events(restore))[-1], RestoreAbandoned)
    assert await host.work() == Done()
    outcomes = [type(event) for event in await host.events(restore)]
    assert outcomes[1:] == [RestoreStarted, RestoreAbandoned, RestoreStarted, RestoreCompleted]
    assert [name for name in host.names() if name.startswith(".partial-")] == []


async def test_a_restore_point_that_is_being_removed_is_waited_for(host: Restoring) -> None:
    import fcntl

    restore = await host.ask()
    with open_directory(host.taken.path) as tree:
        fcntl.flock(tree, fcntl.LOCK_EX)
        assert isinstance(await host.work(), RetryIn)
    failed = (await host.events(restore))[-1]
    assert isinstance(failed, RestoreFailed)
    assert (failed.code, failed.final) == ("in_use", False)
    with open_directory(host.taken.path) as tree, shared_lock(tree):
        assert await host.work() == Done()
    assert isinstance((await host.events(restore))[-1], RestoreCompleted)


async def test_an_acl_comes_back_and_one_that_is_gone_is_missed(
    host: Restoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, name = "home/alice/letters/one.txt", "system.posix_acl_access"
    if name not in os.listxattr(host.taken.path / victim):
        pytest.skip("no ACLs here")
    done = await host.restored(paths=(victim,))
    assert isinstance(done, RestoreCompleted), done
    restored = Path(done.places[0], victim)
    assert os.getxattr(restored, name) == os.getxattr(host.taken.path / victim, name)
    move = transfer.move

    async def moved_without(*args: object, **kwargs: object) -> None:
        await move(*args, **kwargs)  # type: ignore[arg-type]  # as it was called
        (partial,) = (path for path in host.folder.iterdir() if path.name.startswith(".partial-"))
        os.removexattr(partial / victim, name)
        (partial / victim).chmod((host.taken.path / victim).stat().st_mode & 0o7777)

    monkeypatch.setattr(to_folder, "move", moved_without)
    failed = await host.restored(paths=(victim,))
    assert isinstance(failed, RestoreFailed)
    assert "extended attributes" in failed.message
