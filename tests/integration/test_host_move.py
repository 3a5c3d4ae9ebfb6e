"""Moving a host to another drive: all of it arrives byte for byte, shared as before, or it stays where it was."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from services.cli.decisions import _lost
from shared.adapters import process
from shared.adapters.moving import Move
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
from shared.runtime import host_move
from shared.runtime.host_move import MoveProgress, move_host
from tests.support.backups import REPOSITORY
from tests.support.builders import HOST, MAIN, SLOT, a_run, build, new, some_settings
from tests.support.places import new_place
from tests.support.servers import BOUND_SECONDS, Database
from tests.support.shared_stock import HOURS, kept, shared_stock, state_of
from tests.support.stock import stocked
from tests.support.trees import Tree, differences

pytestmark = pytest.mark.timeout(2 * BOUND_SECONDS)

SECOND = StoreName("second")


@pytest.fixture
async def settings(database: Database, log: EventLog) -> AsyncIterator[Settings]:
    """A host with everything that a drive can hold of one, and a second, empty drive."""
    with new_place() as place:
        with stocked(place / "drive") as folder:
            await log.append(host_stream(HOST), None, shared_stock(folder))
        (place / "second").mkdir()
        Store.create(place / "second", SECOND, uuid.uuid4()).close()
        yield some_settings(
            root=place,
            more_stores=(StoreSettings(name=SECOND, root=place / "second"),),
            postgres_dsn=database.worker_dsn,
        )


async def moved(settings: Settings, log: EventLog) -> HostMoved | None:
    return await move_host(settings, log, HOST, SECOND, by="alice", tell=lambda _: None)


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
