"""The spool that all services of a host share: each tells its own events, in order, and a reader waits for all."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from shared.adapters.postgres import EventLog
from shared.adapters.spool import Spool
from shared.adapters.store import Store
from shared.domain.events import ArchiveProgressed, PointPurged, RemovalOrdered, SnapshotProgressed
from shared.domain.names import StoreName, host_stream
from shared.domain.writers import Service, relayed_by
from shared.runtime import outbox as relaying
from shared.runtime.outbox import Outbox
from tests.support.builders import HOST, STORE_UUID, a_run, build, new
from tests.support.places import new_place
from tests.support.servers import BOUND_SECONDS

pytestmark = pytest.mark.timeout(BOUND_SECONDS)

STREAM = host_stream(HOST)


@pytest.fixture
def store() -> Iterator[Store]:
    with new_place() as place:
        made = Store.create(place, StoreName("main"), STORE_UUID)
        yield made
        made.close()


@pytest.fixture
def spool(store: Store) -> Spool:
    with store.folder(HOST) as folder:
        return Spool(folder.path / ".spool" / "events.db")


def outbox_of(service: Service, store: Store, log: EventLog) -> Outbox:
    return Outbox(store, log, relayed_by(service))


async def told(log: EventLog) -> list[object]:
    return [recorded.event for recorded in await log.read_stream(STREAM)]


async def test_each_service_tells_its_own_in_order_and_leaves_the_rest(
    store: Store, spool: Spool, log: EventLog
) -> None:
    chance = random.Random(20260306)  # noqa: S311  # nothing is kept secret here
    facts = [
        new(build(SnapshotProgressed, run=a_run()) if chance.random() < 0.5 else build(ArchiveProgressed, run=a_run()))
        for _ in range(600)
    ]
    spool.add(STREAM, facts)
    archives = [fact.event for fact in facts if isinstance(fact.event, ArchiveProgressed)]
    snapshots = [fact.event for fact in facts if isinstance(fact.event, SnapshotProgressed)]
    assert await outbox_of(Service.ARCHIVER, store, log).tell(HOST)
    assert await told(log) == archives
    assert not spool.is_empty()
    assert await outbox_of(Service.SNAPSHOTTER, store, log).drain(HOST)
    assert await told(log) == [*archives, *snapshots]
    assert spool.is_empty()


async def test_what_somebody_wrote_in_anothers_name_is_never_told_by_him(
    store: Store, spool: Spool, log: EventLog
) -> None:
    spool.add(STREAM, [new(build(PointPurged))])
    assert await outbox_of(Service.ARCHIVER, store, log).tell(HOST)
    assert await told(log) == []
    assert not spool.is_empty()


async def test_a_decision_in_the_spool_is_told_by_nobody(
    store: Store, spool: Spool, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "OTHERS_SECONDS", 0.1)
    spool.add(STREAM, [new(build(RemovalOrdered))])
    for service in (Service.RETENTION, Service.SNAPSHOTTER, Service.ARCHIVER, Service.RESTORER):
        assert not await outbox_of(service, store, log).drain(HOST)
    assert await told(log) == []


async def test_a_reader_waits_until_the_others_have_told_theirs(store: Store, spool: Spool, log: EventLog) -> None:
    spool.add(STREAM, [new(build(SnapshotProgressed))])
    reading = asyncio.create_task(outbox_of(Service.RETENTION, store, log).drain(HOST))
    await asyncio.sleep(0)
    await outbox_of(Service.SNAPSHOTTER, store, log).tell(HOST)
    assert await reading
    assert len(await told(log)) == 1


async def test_what_is_no_event_holds_up_no_service_and_keeps_readers_from_acting(
    store: Store, spool: Spool, log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "OTHERS_SECONDS", 0.1)
    spool.add(STREAM, [new(build(ArchiveProgressed)), new(build(SnapshotProgressed))])
    with store.folder(HOST) as folder, closing(sqlite3.connect(folder.path / ".spool" / "events.db")) as database:
        database.execute("UPDATE waiting SET data = '{' WHERE number = 1")
        database.commit()
    snapshotter = outbox_of(Service.SNAPSHOTTER, store, log)
    assert await snapshotter.tell(HOST)
    assert len(await told(log)) == 1
    assert not await snapshotter.drain(HOST)
