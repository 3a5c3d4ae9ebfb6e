"""Moving a host to another drive: all of it arrives byte for byte, shared as before, or it stays where it was."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from services.cli.decisions import _lost
from shared.adapters import process
from shared.adapters.moving import MOVED, Move
from shared.adapters.postgres import EventLog
from shared.adapters.store import HostFolder, Store
from shared.adapters.trash import throw_away
from shared.adapters.tree_compare import CopyDiffers
from shared.config import Settings, StoreSettings
from shared.domain.errors import BackupManagerError, CalledOff, HostBusy, LogUnavailable, StoreRefused
from shared.domain.events import HoldPlaced, HostMoved, Job, Kind, NewEvent, PointTrashed
from shared.domain.host_state import HostState
from shared.domain.ids import event_id
from shared.domain.names import StoreName, host_stream, snapshot_name
from shared.domain.projection import replay
from shared.runtime import host_move
from shared.runtime.host_move import MoveProgress, move_host
from tests.support.backups import REPOSITORY
from tests.support.builders import HOST, MAIN, SLOT, a_run, build, everything, new, some_settings
from tests.support.places import new_place
from tests.support.servers import BOUND_SECONDS, Database
from tests.support.stock import put_archive, put_golden, put_snapshot, stocked
from tests.support.trees import Tree, differences, snapshot_of

pytestmark = pytest.mark.timeout(2 * BOUND_SECONDS)

SECOND = StoreName("second")
HOURS = 4


@pytest.fixture
async def settings(database: Database, log: EventLog) -> AsyncIterator[Settings]:
    """A host with everything that a drive can hold of one, and a second, empty drive."""
    with new_place() as place:
        with stocked(place / "drive") as folder:
            await log.append(host_stream(HOST), None, _stock(folder))
        (place / "second").mkdir()
        Store.create(place / "second", SECOND, uuid.uuid4()).close()
        yield some_settings(
            root=place,
            more_stores=(StoreSettings(name=SECOND, root=place / "second"),),
            postgres_dsn=database.worker_dsn,
        )


def _stock(folder: HostFolder) -> list[NewEvent]:
    """Snapshots that share files as `--link-dest` makes them, one of them in the trash, an archive, a golden copy."""
    events = []
    for hour in range(HOURS):
        slot = SLOT + timedelta(hours=hour)
        events += put_snapshot(folder, slot)
        home = folder.path / "hourly" / snapshot_name(slot) / "home"
        if hour == 0:
            _strange_files(home)
        else:
            _link_all(
                folder.path / "hourly" / snapshot_name(slot - timedelta(hours=1)) / "home" / "kept", home / "kept"
            )
        (home / "new").write_bytes(os.urandom(3000))
    newest = SLOT + timedelta(hours=HOURS - 1)
    events += [*put_archive(folder, newest), *put_golden(folder, newest, "2026-03")]
    monthly = folder.path / "monthly" / "2026-03" / "home"
    _link_all(folder.path / "hourly" / snapshot_name(newest) / "home" / "kept", monthly / "kept")
    run, gone = a_run(), snapshot_name(SLOT + timedelta(hours=1))
    throw_away(folder, run, Kind.SNAPSHOT, gone)
    trashed = build(PointTrashed, run=run, kind=Kind.SNAPSHOT, point=gone)
    folder.point_links()
    return [*events, NewEvent(event_id(run, 3), trashed)]


def _strange_files(home: Path) -> None:
    kept = home / "kept"
    kept.mkdir(mode=0o2711)
    (kept / "one").write_bytes(b"one")
    os.link(kept / "one", kept / "one again")
    os.link(kept / "one", home / "one outside")
    (kept / "empty").touch(mode=0o4755)
    (kept / "empty").chmod(0o4755)
    with (kept / "sparse").open("wb") as sparse:
        sparse.seek(8 * 1024 * 1024)
        sparse.write(b"end")
        sparse.truncate(16 * 1024 * 1024)
    os.mkfifo(kept / "fifo")
    (kept / "dangling").symlink_to("/nowhere\n")
    Path(os.fsdecode(bytes(kept) + b"/\xff\x1b[31m\n")).write_bytes(b"hostile name")
    deep = kept
    for _ in range(40):
        deep /= "d" * 50
        deep.mkdir()
    (deep / "bottom").write_bytes(b"deep")
    os.setxattr(kept / "one", "user.mood", b"fine")
    os.utime(kept / "one", ns=(1, 1_772_784_000_123_456_789))
    if os.geteuid() == 0:
        os.chown(kept / "empty", 1234, 2345)
        (kept / "empty").chmod(0o4755)
        os.chown(kept / "dangling", 1234, 2345, follow_symlinks=False)
        os.mknod(kept / "null", 0o20666, os.makedev(1, 3))


def _link_all(source: Path, target: Path) -> None:
    """Copy a folder with hard links, as rsync does for what has not changed."""
    target.mkdir()
    for entry in os.scandir(source):
        if entry.is_dir(follow_symlinks=False):
            _link_all(Path(entry.path), target / entry.name)
        else:
            os.link(entry.path, target / entry.name, follow_symlinks=False)


async def moved(settings: Settings, log: EventLog) -> HostMoved | None:
    return await move_host(settings, log, HOST, SECOND, by="alice", tell=lambda _: None)


def kept(settings: Settings, store: StoreName) -> Tree:
    """All that a drive has of the host, but for what belongs to the drive."""
    tree = snapshot_of(settings.root_of(store) / HOST)
    tops = {name.encode() for name in MOVED}
    return Tree({path: entry for path, entry in tree.entries.items() if path.split(b"/")[0] in tops - {path}})


async def state_of(log: EventLog) -> HostState:
    return replay([await everything(log)]).hosts[HOST]


def assert_arrived(settings: Settings, before: Tree) -> None:
    assert differences(before, kept(settings, SECOND)) == []
    assert differences(before, kept(settings, MAIN)) == []
    target = settings.root_of(SECOND) / HOST
    for link in ("current", "latest"):
        assert (target / link).readlink() == (settings.backup_root / HOST / link).readlink()
    assert not (target / ".moving").exists()
    sparse = target / "hourly" / snapshot_name(SLOT) / "home" / "kept" / "sparse"
    assert sparse.stat().st_blocks * 512 < 1024 * 1024


async def test_everything_arrives_and_what_was_shared_is_shared(settings: Settings, log: EventLog) -> None:
    before = kept(settings, MAIN)
    assert len(before.link_groups) > 5
    done = await moved(settings, log)
    assert done is not None
    assert (done.source, done.target, done.points, done.by) == ("main", "second", HOURS - 1 + 2, "alice")
    assert_arrived(settings, before)
    state = await state_of(log)
    assert state.kept_on == "second"
    assert len(state.trash) == 1
    assert await moved(settings, log) is None


async def test_a_flipped_byte_is_found_and_nothing_is_switched(
    settings: Settings, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, compare = kept(settings, MAIN), Move.compare

    def flipped(move: Move, look: object) -> int:
        (file,) = (settings.root_of(SECOND) / HOST / ".moving/tree/hourly" / snapshot_name(SLOT)).glob("home/new")
        times = file.stat()
        content = bytearray(file.read_bytes())
        content[1500] ^= 1
        file.write_bytes(content)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        return compare(move, look)  # type: ignore[arg-type]  # it is only passed on

    with monkeypatch.context() as patch:
        patch.setattr(Move, "compare", flipped)
        with pytest.raises(CopyDiffers, match=r"home/new.*other content"):
            await moved(settings, log)
    assert (await state_of(log)).kept_on == "main"
    assert list((settings.root_of(SECOND) / HOST / "hourly").iterdir()) == []
    assert await moved(settings, log) is not None
    assert_arrived(settings, before)


async def test_a_move_that_was_interrupted_goes_on(settings: Settings, log: EventLog) -> None:
    before, looked = kept(settings, MAIN), MoveProgress.look

    def stop(progress: MoveProgress, moved_bytes: int) -> None:
        if progress.entries == 60:
            progress.stopped.set()
        looked(progress, moved_bytes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MoveProgress, "look", stop)
        with pytest.raises(CalledOff):
            await moved(settings, log)
    assert (await state_of(log)).kept_on == "main"
    assert await moved(settings, log) is not None
    assert_arrived(settings, before)


async def test_what_went_on_the_old_drive_meanwhile_does_not_arrive(settings: Settings, log: EventLog) -> None:
    await moved_without_the_log(settings, log)
    run = a_run()
    with stocked_folder(settings) as folder:
        throw_away(folder, run, Kind.SNAPSHOT, snapshot_name(SLOT))
        folder.point_links()
    fact = build(PointTrashed, run=run, kind=Kind.SNAPSHOT, point=snapshot_name(SLOT))
    await log.append(host_stream(HOST), None, [NewEvent(event_id(run, 3), fact)])
    before = kept(settings, MAIN)
    assert await moved(settings, log) is not None
    assert differences(before, kept(settings, SECOND)) == []


async def moved_without_the_log(settings: Settings, log: EventLog) -> None:
    """Everything but the last step."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_move, "_switch", _log_is_away)
        with pytest.raises(LogUnavailable):
            await moved(settings, log)


async def _log_is_away(*_: object) -> HostMoved:
    raise LogUnavailable("Postgres is away.")


def stocked_folder(settings: Settings) -> HostFolder:
    store = Store.open(settings.backup_root, MAIN)
    try:
        return store.folder(HOST)
    finally:
        store.close()


MOVER = """
import asyncio, sys
from tests.integration.test_host_move import move_slowly
asyncio.run(move_slowly(*sys.argv[1:]))
"""


async def move_slowly(place: str, dsn: str, entries: str) -> None:
    """What runs in the process that is killed: it stands still at an entry, counted over all stages, and says so."""
    left = int(entries)
    looked = MoveProgress.look

    def look(progress: MoveProgress, moved_bytes: int) -> None:
        nonlocal left
        looked(progress, moved_bytes)
        left -= 1
        if left == 0:
            sys.stdout.write("here\n")
            sys.stdout.flush()
            signal.pause()

    MoveProgress.look = look  # type: ignore[assignment, method-assign]  # in a process of its own
    root = Path(place)
    more = (StoreSettings(name=SECOND, root=root / "second"),)
    log = EventLog(dsn)
    await moved(some_settings(root=root, more_stores=more, postgres_dsn=dsn), log)
    await log.close()


async def test_killed_anywhere_it_lives_on_one_drive_and_goes_on(settings: Settings, log: EventLog) -> None:
    before = kept(settings, MAIN)
    entries = len(before.entries)
    for number in (1, 40, entries // 3, entries // 2, entries * 2 // 3, entries * 9 // 10):
        argv = [sys.executable, "-c", MOVER, str(settings.backup_root.parent), settings.postgres_dsn, str(number)]
        async with await process.start(argv, cwd=REPOSITORY) as running, asyncio.timeout(BOUND_SECONDS):
            said = b""
            async for chunk in running.chunks():
                said += chunk
                os.kill(running.pid, signal.SIGKILL)
            assert said == b"here\n", f"it was done before {number} entries"
            await running.wait()
        assert (await state_of(log)).kept_on == "main"
        assert differences(before, kept(settings, MAIN)) == []
    assert await moved(settings, log) is not None
    assert_arrived(settings, before)


async def test_between_the_last_copy_and_the_word_of_the_log_it_lives_on_the_old_drive(
    settings: Settings, log: EventLog
) -> None:
    before = kept(settings, MAIN)
    await moved_without_the_log(settings, log)
    assert (await state_of(log)).kept_on == "main"
    assert await moved(settings, log) is not None
    assert_arrived(settings, before)


async def test_a_hold_that_was_placed_meanwhile_stays_in_force(settings: Settings, log: EventLog) -> None:
    held = new(build(HoldPlaced, pinned=snapshot_name(SLOT)))
    switch = host_move._switch

    async def later(moving: host_move._Moving, state: HostState) -> HostMoved:
        await log.append(host_stream(HOST), None, [held])
        return await switch(moving, state)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_move, "_switch", later)
        assert await moved(settings, log) is not None
    state = await state_of(log)
    assert (state.kept_on, state.pinned) == ("second", snapshot_name(SLOT))


async def test_what_somebody_else_put_there_is_not_touched(settings: Settings, log: EventLog) -> None:
    foreign = settings.root_of(SECOND) / HOST / "hourly" / "2020-01-01_0000"
    foreign.mkdir(parents=True)
    with pytest.raises(StoreRefused, match="has something already: b'2020-01-01_0000'"):
        await moved(settings, log)
    assert foreign.exists()


async def test_every_job_of_the_host_and_the_move_wait_for_each_other(settings: Settings, log: EventLog) -> None:
    for job in Job:
        with stocked_folder(settings) as folder, folder.locked(job), pytest.raises(HostBusy):
            await moved(settings, log)
    assert (await state_of(log)).kept_on == "main"


async def test_what_only_the_log_knows_stops_a_move(settings: Settings, log: EventLog) -> None:
    lost = settings.backup_root / HOST / "hourly" / snapshot_name(SLOT)
    lost.rename(settings.backup_root.parent / "lost")
    with pytest.raises(BackupManagerError, match="is in the log and not on the drive"):
        await moved(settings, log)


async def test_a_host_without_points_needs_no_move(settings: Settings, log: EventLog) -> None:
    nobody = msgspec.structs.replace(settings.hosts[0], name="nobody")
    with pytest.raises(BackupManagerError, match="knows no restore points of nobody") as refused:
        await move_host(settings, log, nobody.name, SECOND, by="alice", tell=lambda _: None)
    assert 'store = "second"' in refused.value.hint


@pytest.mark.parametrize("full", ["before", "meanwhile"])
async def test_it_never_takes_the_last_of_the_new_drive(full: str, settings: Settings, log: EventLog) -> None:
    judge = "why_no_room" if full == "before" else "why_running_out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_move, judge, lambda *_: "There is no room.")
        with pytest.raises(BackupManagerError, match="There is no room") as stopped:
            await moved(settings, log)
    assert "Free some room on the new drive" in stopped.value.hint
    assert (await state_of(log)).kept_on == "main"


async def test_a_drive_that_fails_is_said_and_it_goes_on_later(settings: Settings, log: EventLog) -> None:
    before = kept(settings, MAIN)

    def failing(_progress: MoveProgress, _bytes: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "home/new")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MoveProgress, "look", failing)
        with pytest.raises(BackupManagerError, match=r"Input/output error at home/new\. nas lives on main as before"):
            await moved(settings, log)
    assert await moved(settings, log) is not None
    assert_arrived(settings, before)


async def test_nothing_is_declared_lost_because_the_settings_name_another_drive(
    settings: Settings, log: EventLog
) -> None:
    assert await log.head() > 0
    elsewhere = msgspec.structs.replace(settings, hosts=(msgspec.structs.replace(settings.hosts[0], store=SECOND),))
    elsewhere = msgspec.structs.replace(elsewhere, nats_url="nats://127.0.0.1:1")
    with pytest.raises(BackupManagerError, match="is on the drive"):
        await _lost(elsewhere, HOST, Kind.SNAPSHOT, snapshot_name(SLOT), "not seen on the second drive")
