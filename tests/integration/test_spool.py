"""Events on their way to the log: nothing is lost, doubled or turned round, whoever is killed."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import aclosing, closing
from pathlib import Path
from uuid import UUID

import pytest

from services.cli.audit import check_chain
from shared.adapters import process
from shared.adapters import spool as spooling
from shared.adapters.postgres import EventLog
from shared.adapters.spool import Spool
from shared.adapters.store import Store
from shared.domain.errors import LogUnavailable
from shared.domain.events import NewEvent, Recorded
from shared.domain.names import HostName, StoreName, host_stream
from shared.runtime import outbox as relaying
from shared.runtime.outbox import Outbox
from tests.support.builders import STORE_UUID, a_run, alerts, everything
from tests.support.places import new_place
from tests.support.servers import Database, SharedPostgres

REPOSITORY = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(120)
SEED = 20260306
KILLS = 24
SHARES = KILLS + 1
SERVER_STOPS = 4
HOSTS = [HostName(name) for name in ("alpha", "beta", "gamma", "delta")]
HOST = HOSTS[0]
EVENTS_OF_EACH = 400

WRITER = """
import os, pathlib, sys
from shared.adapters.spool import Spool
from tests.support.builders import alerts
spool = Spool(pathlib.Path(sys.argv[1]))
for number, event in enumerate(alerts(60_000), start=1):
    spool.add("host-alpha", [event])
    os.write(1, b"%d\\n" % number)
"""

RELAY = """
import asyncio, os, pathlib, sys
from shared.adapters import spool
from shared.adapters.postgres import EventLog
from shared.adapters.store import Store
from shared.domain.names import StoreName
from shared.runtime import outbox
spool.BATCH_EVENTS = 3
outbox.RELAY_SECONDS = 0.01
async def main():
    relaying = outbox.Outbox(Store.open(pathlib.Path(sys.argv[1]), StoreName("main")), EventLog(sys.argv[2]))
    os.write(1, b"ready")
    await relaying.relay(asyncio.Event())
asyncio.run(main())
"""


@pytest.fixture
def store() -> Iterator[Store]:
    with new_place() as place:
        made = Store.create(place, StoreName("main"), STORE_UUID)
        yield made
        made.close()


@pytest.fixture
def outbox(store: Store, log: EventLog, monkeypatch: pytest.MonkeyPatch) -> Outbox:
    monkeypatch.setattr(relaying, "RELAY_SECONDS", 0.05)
    return Outbox(store, log)


def spool_of(store: Store, host: HostName = HOST) -> Spool:
    with store.folder(host) as folder:
        return Spool(folder.path / ".spool" / "events.db")


def waiting_in(spool: Spool) -> list[NewEvent]:
    """Everything that waits, taken out batch by batch."""
    waiting: list[NewEvent] = []
    while batch := spool.oldest():
        waiting += batch.events
        spool.forget(batch.last_number)
    return waiting


async def relayed(outbox: Outbox, log: EventLog, number: int) -> list[Recorded]:
    """Relay until the log holds so many events."""
    stop = asyncio.Event()
    task = asyncio.create_task(outbox.relay(stop))
    try:
        async with aclosing(log.follow(0)) as pages:
            async for page in pages:
                if not page and await log.head() >= number:
                    break
    finally:
        stop.set()
        await task
    return await everything(log)


def ids(events: list[NewEvent]) -> list[UUID]:
    return [event.id for event in events]


def test_what_was_added_comes_out_in_order_and_in_batches_of_one_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spooling, "BATCH_EVENTS", 4)
    spool = Spool(tmp_path / "events.db")
    assert spool.oldest() is None
    events = alerts(11)
    spool.add("host-a", events[:6])
    spool.add("host-b", events[6:8])
    spool.add("host-a", events[8:])
    batches = []
    while batch := spool.oldest():
        batches.append((batch.stream, list(batch.events)))
        spool.forget(batch.last_number)
    assert [(stream, len(taken)) for stream, taken in batches] == [
        ("host-a", 4),
        ("host-a", 2),
        ("host-b", 2),
        ("host-a", 3),
    ]
    assert [event for _, taken in batches for event in taken] == events


def test_an_event_that_waits_already_is_not_added_twice(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "events.db")
    events = alerts(3)
    spool.add("host-a", events[:2])
    spool.add("host-a", events)
    assert waiting_in(spool) == events


def test_looking_takes_nothing_away(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "events.db")
    spool.add("host-a", alerts(2))
    assert spool.oldest() == spool.oldest() is not None


@pytest.mark.parametrize("after", [1, 7, 40, 150])
async def test_what_add_returned_for_survives_kill_9(after: int, tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    said = b""
    async with await process.start([sys.executable, "-c", WRITER, str(path)], cwd=REPOSITORY) as writer:
        async for chunk in writer.chunks():
            said += chunk
            if said.count(b"\n") >= after:
                writer.send_signal(signal.SIGKILL)
    returned = int(said.split()[-1])
    kept = [str(event.event) for event in waiting_in(Spool(path))]
    assert len(kept) in {returned, returned + 1}, writer.stderr
    assert [f"'alert {number}'" in text for number, text in enumerate(kept, start=1)] == [True] * len(kept)


async def test_kills_of_the_relay_and_of_the_server_lose_double_and_turn_round_nothing(
    store: Store, database: Database, log: EventLog, shared_server: SharedPostgres
) -> None:
    chance = random.Random(SEED)  # noqa: S311  # nothing is kept secret here
    spools = {host: spool_of(store, host) for host in HOSTS}
    expected = {host: alerts(EVENTS_OF_EACH, prefix=host) for host in HOSTS}
    argv = [sys.executable, "-c", RELAY, str(store.root), database.worker_dsn]

    def feed(host: HostName, share: int) -> None:
        first, end = (EVENTS_OF_EACH * part // SHARES for part in (share, share + 1))
        for start in range(first, end, 5):
            spools[host].add(host_stream(host), expected[host][start : min(start + 5, end)])

    recorded_at_kill = []
    for kill in range(KILLS):
        async with await process.start(argv, cwd=REPOSITORY) as relay:
            assert await anext(relay.chunks()) == b"ready"
            # Each relay gets something new to do, and is killed somewhere between its beginning and its end.
            feeding = asyncio.gather(*(asyncio.to_thread(feed, host, kill) for host in HOSTS))
            await asyncio.wait({asyncio.ensure_future(relay.wait())}, timeout=chance.uniform(0.0, 0.2))
            if kill % (KILLS // SERVER_STOPS) == 3:
                await shared_server.stop_immediately()
                await shared_server.start()
            assert relay.returncode is None, relay.stderr
            relay.send_signal(signal.SIGKILL)
            await relay.wait()
        await feeding
        recorded_at_kill.append(await log.head())
    assert len(set(recorded_at_kill)) > KILLS // 3, "most kills hit a relay that did nothing"
    for host in HOSTS:
        feed(host, KILLS)
    kept = await relayed(Outbox(store, log), log, EVENTS_OF_EACH * len(HOSTS))
    for host in HOSTS:
        of_host = [event.event for event in kept if event.stream == host_stream(host)]
        assert of_host == [event.event for event in expected[host]]
        assert spools[host].oldest() is None
    assert len(kept) == EVENTS_OF_EACH * len(HOSTS)
    assert (await check_chain(log)).findings == []


async def test_facts_are_in_the_log_at_once_while_it_is_there(outbox: Outbox, store: Store, log: EventLog) -> None:
    events = alerts(3)
    await outbox.record(HOST, events[:2])
    await outbox.record(HOST, events[2:])
    assert [event.event for event in await log.read_stream(host_stream(HOST))] == [event.event for event in events]
    assert spool_of(store).oldest() is None


async def test_while_the_log_is_away_facts_wait_on_the_drive_and_follow_in_order_when_it_is_back(
    outbox: Outbox, store: Store, log: EventLog, shared_server: SharedPostgres
) -> None:
    expected: dict[HostName, list[NewEvent]] = {host: [] for host in HOSTS}
    await shared_server.kill()
    for turn in range(5):
        for host in HOSTS:
            events = alerts(1 + turn % 2, prefix=f"{host} turn {turn}")
            expected[host] += events
            await outbox.record(host, events)
    assert outbox.log_is_away
    for host in HOSTS:
        assert not await outbox.drain(host)
        waiting = spool_of(store, host).oldest()
        assert waiting is not None
        assert ids(list(waiting.events)) == ids(expected[host])
    await shared_server.start()
    total = sum(len(events) for events in expected.values())
    kept = await relayed(outbox, log, total)
    assert len(kept) == total
    for host in HOSTS:
        of_host = [event.event for event in kept if event.stream == host_stream(host)]
        assert of_host == [event.event for event in expected[host]]
        assert spool_of(store, host).oldest() is None
    assert not outbox.log_is_away


async def test_what_a_dead_worker_left_on_the_drive_is_relayed_by_the_next_one(store: Store, log: EventLog) -> None:
    events = alerts(3)
    spool_of(store).add(host_stream(HOST), events)
    kept = await relayed(Outbox(store, log), log, 3)
    assert [event.event for event in kept] == [event.event for event in events]


async def test_where_the_spool_cannot_be_written_facts_go_to_the_log_directly(
    outbox: Outbox, store: Store, log: EventLog
) -> None:
    with store.folder(HOST) as folder:
        (folder.path / ".spool" / "events.db").mkdir()
    await outbox.record(HOST, alerts(2))
    assert await log.head() == 2


async def test_what_waits_in_a_spool_that_cannot_be_written_any_more_is_told_first(
    outbox: Outbox, store: Store, log: EventLog, shared_server: SharedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shared_server.kill()
    earlier, later = alerts(1, prefix="earlier"), alerts(1, prefix="later")
    await outbox.record(HOST, earlier)
    await shared_server.start()

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Spool, "add", full)
    await outbox.record(HOST, later)
    told = [event.event for event in await log.read_stream(host_stream(HOST))]
    assert told == [event.event for event in (*earlier, *later)]


async def test_where_the_drive_is_gone_facts_go_to_the_log_directly(
    outbox: Outbox, store: Store, log: EventLog
) -> None:
    moved = store.root.rename(store.root.with_name(f"{store.root.name}-unplugged"))
    try:
        await outbox.record(HOST, alerts(2))
        assert await log.head() == 2
        assert not await outbox.drain(HOST)
    finally:
        moved.rename(store.root)


async def test_only_when_drive_and_log_are_both_away_recording_fails(
    outbox: Outbox, store: Store, log: EventLog, shared_server: SharedPostgres
) -> None:
    with store.folder(HOST) as folder:
        (folder.path / ".spool" / "events.db").mkdir()
    await shared_server.kill()
    events = alerts(2)
    with pytest.raises(LogUnavailable):
        await outbox.record(HOST, events)
    await shared_server.start()
    await outbox.record(HOST, events)
    assert await log.head() == 2


async def test_events_that_are_recorded_already_do_not_hold_up_the_others_of_their_batch(
    outbox: Outbox, store: Store, log: EventLog
) -> None:
    events = alerts(6)
    stream = host_stream(HOST)
    await log.append(stream, None, [events[2], events[4]])
    await outbox.record(HOST, events)
    kept = [str(event.event) for event in await log.read_stream(stream)]
    assert [next(n for n in range(1, 7) if f"'alert {n}'" in text) for text in kept] == [3, 5, 1, 2, 4, 6]
    assert spool_of(store).oldest() is None


async def test_a_batch_whose_answer_was_lost_is_not_recorded_again(outbox: Outbox, store: Store, log: EventLog) -> None:
    events = alerts(4)
    spool_of(store).add(host_stream(HOST), events)
    await log.append(host_stream(HOST), None, events[:3])
    await outbox.drain(HOST)
    assert [event.event for event in await everything(log)] == [event.event for event in events]


async def test_an_event_that_the_log_will_never_take_stays_and_holds_up_no_other_host(
    outbox: Outbox, store: Store, log: EventLog
) -> None:
    refused = alerts(1)
    await log.append("settings", None, refused)  # its id is taken for another stream
    await outbox.record(HOSTS[0], refused)
    await outbox.record(HOSTS[1], alerts(2))
    kept = await relayed(outbox, log, 3)
    assert [event.stream for event in kept] == ["settings", host_stream(HOSTS[1]), host_stream(HOSTS[1])]
    waiting = spool_of(store, HOSTS[0]).oldest()
    assert waiting is not None
    assert ids(list(waiting.events)) == ids(refused)


async def test_a_waiting_event_of_a_newer_version_holds_up_no_other_host(
    outbox: Outbox, store: Store, log: EventLog
) -> None:
    spool_of(store).add(host_stream(HOST), alerts(1))
    with store.folder(HOST) as folder, closing(sqlite3.connect(folder.path / ".spool" / "events.db")) as database:
        database.execute("""UPDATE waiting SET data = '{"type":"InventedTomorrow"}'""")
        database.commit()
    assert not await outbox.drain(HOST)
    await outbox.record(HOSTS[1], alerts(1))
    assert [event.stream for event in await everything(log)] == [host_stream(HOSTS[1])]


async def test_two_relays_at_once_record_everything_once_and_in_order(store: Store, database: Database) -> None:
    run = a_run()
    events = [NewEvent(UUID(int=run.int | step), event.event) for step, event in enumerate(alerts(900), start=1)]
    spool_of(store).add(host_stream(HOST), events)
    logs = [EventLog(database.worker_dsn) for _ in range(2)]
    try:
        await asyncio.gather(*(Outbox(store, log).drain(HOST) for log in logs))
        assert [event.event for event in await everything(logs[0])] == [event.event for event in events]
    finally:
        await asyncio.gather(*(log.close() for log in logs))
