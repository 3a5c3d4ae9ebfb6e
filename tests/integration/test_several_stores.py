"""Several drives: each is served by whoever has it mounted, comes and goes, and leaves the others alone."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.api.files.drive import Drive
from services.archiver.service import serve as serve_archiver
from services.cli.audit import _audit
from services.cli.decisions import _lost
from services.restorer.to_folder import opened_target
from services.snapshotter.service import serve as serve_snapshotter
from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import Accepted, Bus
from shared.adapters.point_tree import reading_host
from shared.adapters.postgres import EventLog
from shared.adapters.store import Store
from shared.config import HostSettings, Settings, StoreSettings
from shared.domain.errors import BackupManagerError, HostElsewhere, RunFailed, StoreNotMounted, StoreRefused
from shared.domain.events import ArchiveCompleted, Job, Kind, Recorded, SnapshotCompleted, SnapshotFailed
from shared.domain.messages import Tick
from shared.domain.names import HostName, StoreName
from shared.domain.projection import replay
from shared.domain.schedule import trigger_slot
from shared.runtime import stores
from shared.runtime.acceptance import refuse_elsewhere
from shared.runtime.provision import provision_bus
from shared.runtime.stores import mounted_stores
from tests.support.builders import everything, first_that
from tests.support.places import new_place
from tests.support.servers import BOUND_SECONDS, Database, NatsServer

pytestmark = pytest.mark.timeout(2 * BOUND_SECONDS)

MAIN, SECOND = StoreName("main"), StoreName("second")
Serve = Callable[[Settings, asyncio.Event], Coroutine[Any, Any, None]]


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "LOOK_SECONDS", 0.1)


@pytest.fixture
async def settings(database: Database, nats_server: NatsServer) -> AsyncIterator[Settings]:
    """Two drives, and a host on each; both are this machine, so that nothing but rsync is needed."""
    with new_place() as place:
        for name in (MAIN, SECOND):
            (place / name).mkdir()
            Store.create(place / name, name, uuid.uuid4()).close()
        made = Settings(
            backup_root=place / MAIN,
            more_stores=(StoreSettings(name=SECOND, root=place / SECOND),),
            data_dir=place / "data",
            hosts=tuple(_host(place, name, store) for name, store in (("nas", MAIN), ("pi", SECOND))),
            nats_url=nats_server.url,
            postgres_dsn=database.worker_dsn,
        )
        await provision_bus(made, nats_server.url)
        yield made


def _host(place: Path, name: str, store: StoreName) -> HostSettings:
    home = place / "source" / name / "home"
    home.mkdir(parents=True)
    (home / "file").write_text(f"of {name}")
    return HostSettings(
        name=HostName(name), store=store, transport="local", paths=(f"{home.parent}/./home",), excludes=()
    )


def elsewhere(settings: Settings, *away: StoreName) -> Settings:
    """The settings of a machine that does not have these drives."""
    nowhere = settings.data_dir / "not-here"
    more = tuple(
        msgspec.structs.replace(store, root=nowhere / store.name) if store.name in away else store
        for store in settings.more_stores
    )
    root = nowhere / MAIN if MAIN in away else settings.backup_root
    return msgspec.structs.replace(settings, backup_root=root, more_stores=more)


@asynccontextmanager
async def running(serve: Serve, settings: Settings) -> AsyncIterator[asyncio.Task[None]]:
    """A service, while the block lasts."""
    stop = asyncio.Event()
    task = asyncio.create_task(serve(settings, stop))
    try:
        yield task
    finally:
        stop.set()
        await asyncio.wait([task], timeout=BOUND_SECONDS)
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error


async def asked(settings: Settings, host: str, job: Job = Job.SNAPSHOT) -> None:
    """Ask for a job of a host."""
    known = settings.host(host)
    assert known is not None
    bus = await Bus.connect(settings.nats_url, "test")
    async with asyncio.timeout(BOUND_SECONDS):
        while await bus.publish_tick(_tick(job, known)) is not Accepted.STORED:  # noqa: ASYNC110  # nobody announces it
            await asyncio.sleep(0.05)  # the one before is settled in a moment, or of this very second
    await bus.close()


def _tick(job: Job, host: HostSettings) -> Tick:
    return Tick(job, host.store, host.name, trigger_slot(SystemClock().now()))


async def told(log: EventLog, kind: type[Any], host: str) -> Any:
    """The first event of this kind about a host."""
    wanted = lambda event: isinstance(event.event, kind) and event.stream == f"host-{host}"  # noqa: E731
    async with asyncio.timeout(BOUND_SECONDS):
        return (await first_that(log, wanted)).event


async def until_said(caplog: pytest.LogCaptureFixture, words: str) -> None:
    """Wait until the journal has these words."""
    async with asyncio.timeout(BOUND_SECONDS):
        while words not in caplog.text:  # noqa: ASYNC110  # nobody announces it
            await asyncio.sleep(0.02)


def kept(settings: Settings, host: str) -> list[str]:
    """What is in the newest snapshot of a host."""
    return sorted(path.name for path in (settings.folder_of(host) / "current" / "home").iterdir())


def about(events: list[Recorded], host: str) -> list[str]:
    return [type(event.event).__name__ for event in events if event.stream == f"host-{host}"]


async def test_one_process_serves_every_drive(settings: Settings, log: EventLog) -> None:
    async with running(serve_snapshotter, settings):
        for host in ("nas", "pi"):
            await asked(settings, host)
        for host in ("nas", "pi"):
            done = await told(log, SnapshotCompleted, host)
            assert done.files == 1
            assert kept(settings, host) == ["file"]
    assert sorted(path.name for path in settings.root_of(MAIN).iterdir() if path.is_dir()) == ["nas"]
    assert sorted(path.name for path in settings.root_of(SECOND).iterdir() if path.is_dir()) == ["pi"]
    measured = [event.stream for event in await everything(log) if type(event.event).__name__ == "StoreMeasured"]
    assert sorted(measured) == ["store-main", "store-second"]


async def test_each_machine_does_the_work_of_its_own_drive(settings: Settings, log: EventLog) -> None:
    first, second = elsewhere(settings, SECOND), elsewhere(settings, MAIN)
    async with running(serve_snapshotter, first):
        await asked(settings, "pi")
        await asked(settings, "nas")
        await told(log, SnapshotCompleted, "nas")
        assert about(await everything(log), "pi") == []
        async with running(serve_snapshotter, second):
            await told(log, SnapshotCompleted, "pi")
    assert kept(settings, "nas") == kept(settings, "pi") == ["file"]
    assert not (settings.data_dir / "not-here").exists()


async def test_a_drive_that_comes_later_is_served_without_a_new_start(settings: Settings, log: EventLog) -> None:
    root = settings.root_of(SECOND)
    root.rename(root.with_name("unplugged"))
    async with running(serve_snapshotter, settings):
        await asked(settings, "pi")
        await asked(settings, "nas")
        await told(log, SnapshotCompleted, "nas")
        root.with_name("unplugged").rename(root)
        await told(log, SnapshotCompleted, "pi")


async def test_a_drive_that_goes_disturbs_nobody_and_is_served_when_it_is_back(
    settings: Settings, log: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    root = settings.root_of(SECOND)
    async with running(serve_snapshotter, settings):
        await asked(settings, "pi")
        first = await told(log, SnapshotCompleted, "pi")
        root.rename(root.with_name("unplugged"))
        await until_said(caplog, "Its hosts wait")
        await asked(settings, "nas")
        await told(log, SnapshotCompleted, "nas")
        await asked(settings, "pi")
        assert not root.exists()
        root.with_name("unplugged").rename(root)
        again = lambda event: isinstance(event.event, SnapshotCompleted) and event.event.base == first.snapshot  # noqa: E731
        async with asyncio.timeout(BOUND_SECONDS):
            await first_that(log, again)
    assert "SnapshotFailed" not in about(await everything(log), "pi")


async def test_what_the_kernel_holds_back_ends_in_order_when_a_drive_comes(settings: Settings, log: EventLog) -> None:
    async with running(serve_snapshotter, settings):
        await asked(settings, "nas")
        await told(log, SnapshotCompleted, "nas")
    root = settings.root_of(SECOND)
    root.rename(root.with_name("unplugged"))
    task = asyncio.create_task(serve_archiver(settings, asyncio.Event()))
    await asked(settings, "nas", Job.ARCHIVE)
    await told(log, ArchiveCompleted, "nas")
    root.with_name("unplugged").rename(root)
    with pytest.raises(BackupManagerError, match="'second' was mounted after the start") as ended:
        await asyncio.wait_for(task, BOUND_SECONDS)
    assert not isinstance(ended.value, StoreRefused)  # that would say that a new start is useless


async def test_a_machine_without_any_of_the_drives_says_so(settings: Settings) -> None:
    with pytest.raises(StoreRefused, match=r"No store is mounted on this machine.*'main'.*'second'"):
        await serve_snapshotter(elsewhere(settings, MAIN, SECOND), asyncio.Event())


async def test_the_only_drive_of_an_installation_is_waited_for_as_ever(settings: Settings, log: EventLog) -> None:
    alone = msgspec.structs.replace(settings, more_stores=(), hosts=settings.hosts[:1])
    with pytest.raises(StoreNotMounted, match="'main' is not mounted on this machine"):
        await serve_snapshotter(elsewhere(alone, MAIN), asyncio.Event())
    async with running(serve_snapshotter, alone):
        await first_that(log, lambda event: event.stream == "store-main")
        alone.backup_root.rename(alone.backup_root.with_name("unplugged"))
        await asked(alone, "nas")
        failed = await told(log, SnapshotFailed, "nas")
        assert failed.code == "store"
        alone.backup_root.with_name("unplugged").rename(alone.backup_root)
        await asked(alone, "nas")
        await told(log, SnapshotCompleted, "nas")


def test_the_others_are_said_one_line_each(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    for store in mounted_stores(elsewhere(settings, SECOND)).values():
        assert store.identity.name == MAIN
        store.close()
    (line,) = caplog.messages
    assert "The store 'second' is not mounted on this machine" in line


# What is not mounted here is elsewhere, and never looks like loss.


async def test_what_is_on_a_drive_of_another_machine_is_not_missed(settings: Settings, log: EventLog) -> None:
    async with running(serve_snapshotter, settings):
        for host in ("nas", "pi"):
            await asked(settings, host)
            taken = await told(log, SnapshotCompleted, host)
    assert (await _audit(settings))[0] == []
    here = elsewhere(settings, SECOND)
    findings, notes = await _audit(here)
    assert findings == []
    assert [note for note in notes if "'second' is not mounted on this machine" in note]
    with pytest.raises(StoreNotMounted, match="'second' is not mounted"):
        await _lost(here, HostName("pi"), Kind.SNAPSHOT, taken.snapshot, "I do not see it")
    drive = Drive(here)
    with pytest.raises(StoreNotMounted), reading_host(drive.where(HostName("pi"))):
        pass
    with reading_host(drive.where(HostName("nas"))) as folder:
        assert folder.snapshots() != []
    await drive.close()


async def test_a_line_in_the_settings_alone_moves_nobody(
    settings: Settings, log: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(serve_snapshotter, settings):
        await asked(settings, "pi")
        await told(log, SnapshotCompleted, "pi")
    pi = settings.hosts[1]
    changed = msgspec.structs.replace(settings, hosts=(msgspec.structs.replace(pi, store=MAIN),))
    store = Store.open(settings.backup_root, MAIN)
    state = replay([await everything(log)]).hosts["pi"]
    with pytest.raises(HostElsewhere, match=r"'second'.*'main'"):
        refuse_elsewhere("pi", state, store)
    store.close()
    before = len(await everything(log))
    async with running(serve_snapshotter, changed):
        await asked(changed, "pi")
        await until_said(caplog, "is kept on the store 'second', but by the settings on 'main'")
    assert [type(event.event).__name__ for event in await everything(log)][before:].count("SnapshotStarted") == 0


def test_nothing_is_restored_into_any_store_nor_held_up_by_one_that_is_away(settings: Settings) -> None:
    place = settings.data_dir.parent
    (settings.root_of(SECOND) / "nas" / "hourly").mkdir(parents=True)
    (place / "way").symlink_to(settings.root_of(SECOND))
    into = str(place / "way" / "nas" / "hourly")
    refusing = msgspec.structs.replace(settings, restore_folders=(into,))
    with pytest.raises(RunFailed, match="another store"), opened_target(refusing, into):
        pass
    (place / "restored").mkdir()
    free = msgspec.structs.replace(elsewhere(settings, SECOND), restore_folders=(str(place / "restored"),))
    with opened_target(free, str(place / "restored")) as descriptor:
        assert os.listdir(descriptor) == []
