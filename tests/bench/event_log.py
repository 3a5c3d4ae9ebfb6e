"""The event log against the recorder of the `eventsourcing` library: the same events on the same server, in turns.

The library gets its default settings and a schema of its own. Replaying means for both: read everything in pages,
decode the same JSON with the same decoder, and fold it with the same `evolve` into the same state.
"""

from __future__ import annotations

import gc
import hashlib
import time
from contextlib import AsyncExitStack
from functools import cache
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import UUID

import asyncpg
import psycopg.pq
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresFactory

from services.cli.session import state_of
from shared.adapters.postgres import EventLog
from shared.domain.events import NewEvent, Recorded, decode_event, encode_event
from shared.domain.ids import derived_id
from shared.domain.projection import State, evolve
from tests.bench.history import BATCH, HOSTS, Host, batches
from tests.bench.options import BenchmarkBroken, Options
from tests.bench.samples import Samples
from tests.bench.servers import Servers, servers, settings_of
from tests.bench.table import Found, Row, below, compared

SCHEMA: Final = "library"
PAGE: Final = 5_000
REPLAY_SECONDS: Final = 2.5
COPY_TIMEOUT_SECONDS: Final = 300.0

_COPY: Final = f"""
    INSERT INTO {SCHEMA}.stored_events (originator_id, originator_version, topic, state)
    SELECT o.id, e.version, e.type, convert_to(e.data::text, 'UTF8')
      FROM log.events e JOIN unnest($1::text[], $2::uuid[]) o(stream, id) ON o.stream = e.stream ORDER BY e.position"""  # noqa: S608


async def measure(options: Options) -> Found:
    """Run the comparison."""
    events = options.size(1_000_000, quick=20_000)
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(servers(options.folder, settings_of(options.folder)))
        await _execute(place, f"CREATE SCHEMA {SCHEMA}")
        log = EventLog(place.dsn)
        stack.push_async_callback(log.close)
        factory = _factory(place)
        stack.callback(factory.close)
        library = factory.application_recorder()
        options.say(f"Loading {events:,} events ...")
        loaded = Samples([await _load(log, events)])
        await _copy(place)
        replays = await _replays(options, log, library, events)
        appends = await _appends(options, log, library)
    rows = [
        below(f"replay of {events:,} events", replays[0], REPLAY_SECONDS, unit=" s"),
        compared(
            "replay, events/s", _rate(events, replays[0]), _rate(events, replays[1]), unit="", digits=0, at_least=5
        ),
        *appends,
        Row(f"load in batches of {BATCH}, events/s", _rate(events, loaded).shown("", 0)),
    ]
    notes = [
        f"yardstick: eventsourcing's PostgresApplicationRecorder with its default settings, {_driver()}",
        "ours is hash-chained, checked against the expected version, and safe to send twice; the library does neither",
        "the garbage collector is as Python sets it, like in the services",
    ]
    return Found("log: append and replay against the eventsourcing library", rows, notes)


def _driver() -> str:
    slow = psycopg.pq.__impl__ == "python"
    advice = "in Python: install psycopg-binary to compare with the faster one in C" if slow else psycopg.pq.__impl__
    return f"psycopg {psycopg.__version__} ({advice})"


def _rate(events: int, seconds: Samples) -> Samples:
    return Samples([events / value for value in seconds.values])


def _factory(place: Servers) -> PostgresFactory:
    dsn = urlsplit(place.admin_dsn)
    query = parse_qs(dsn.query)
    environment = {
        "POSTGRES_DBNAME": unquote(dsn.path[1:]),
        "POSTGRES_HOST": query["host"][0],
        "POSTGRES_PORT": query["port"][0],
        "POSTGRES_USER": unquote(dsn.username or ""),
        "POSTGRES_PASSWORD": unquote(dsn.password or ""),
        "POSTGRES_SCHEMA": SCHEMA,
    }
    return PostgresFactory(environment)


async def _load(log: EventLog, events: int) -> float:
    """Append the whole history; returns the seconds spent in `append`."""
    spent = 0.0
    for host, batch in batches(events):
        started = time.perf_counter()
        await log.append(host.stream, host.version - len(batch), batch)
        spent += time.perf_counter() - started
    return spent


@cache
def _originator(stream: str) -> UUID:
    return derived_id("originator", stream)


async def _copy(place: Servers) -> None:
    """Give the library the same events, and both tables a vacuum, as the server would do by itself soon."""
    streams = [Host(number).stream for number in range(HOSTS)]
    await _execute(place, _COPY, streams, [_originator(stream) for stream in streams])
    await _execute(place, f"VACUUM ANALYZE log.events, {SCHEMA}.stored_events")
    await _execute(place, "CHECKPOINT")


async def _execute(place: Servers, sql: str, *values: object) -> None:
    connection = await asyncpg.connect(place.admin_dsn)
    try:
        await connection.execute(sql, *values, timeout=COPY_TIMEOUT_SECONDS)
    finally:
        await connection.close()


async def _replays(
    options: Options, log: EventLog, library: PostgresApplicationRecorder, events: int
) -> tuple[Samples, Samples]:
    ours, theirs = Samples(), Samples()
    streams = {_originator(stream): stream for stream in (Host(number).stream for number in range(HOSTS))}
    for number in range(options.rounds(5)):
        options.say(f"Replay {number + 1} ...")
        gc.collect()
        started = time.perf_counter()
        state = await state_of(log)
        ours.add(time.perf_counter() - started)
        position, mine = state.position, _digest(state)
        del state  # a large heap would slow the other one down
        gc.collect()
        started = time.perf_counter()
        state = _fold(library, streams)
        theirs.add(time.perf_counter() - started)
        if position != events or _digest(state) != mine:
            raise BenchmarkBroken("The two replays do not end in the same state.")
        del state
    return ours, theirs


def _digest(state: State) -> str:
    """What must be the same. The library's table does not say when an event was recorded, so times are left out."""
    digest = hashlib.sha256()
    for name, host in sorted(state.hosts.items()):
        digest.update(f"{name} {host.version} {host.runs_completed} {host.settled_slots}".encode())
        for found in host.snapshots.values():
            digest.update(f"{found.name} {found.slot} {found.files} {found.size_bytes} {found.run}".encode())
    return digest.hexdigest()


def _fold(library: PostgresApplicationRecorder, streams: dict[UUID, str]) -> State:
    state = State()
    start = 1
    while page := library.select_notifications(start, PAGE):
        for found in page:
            stream = streams[found.originator_id]
            evolve(state, Recorded(found.id, 0, stream, found.originator_version, decode_event(found.state)))
        start = page[-1].id + 1
    return state


async def _appends(options: Options, log: EventLog, library: PostgresApplicationRecorder) -> list[Row]:
    """The same new events for both, in turns: one by one, and in batches."""
    hosts = [Host(number) for number in range(HOSTS, 2 * HOSTS)]
    rows = []
    for what, size, count in (("append one by one", 1, 1_000), (f"append in batches of {BATCH}", BATCH, 200)):
        ours, theirs = Samples(), Samples()
        wanted = options.size(count, quick=20)
        for number in range(options.rounds(7)):
            batch = [(host.stream, host.version, host.next(size)) for host in (hosts * wanted)[:wanted]]
            turns = [("ours", ours), ("theirs", theirs)]
            for who, samples in turns if number % 2 else reversed(turns):
                started = time.perf_counter()
                if who == "ours":
                    await _append_ours(log, batch)
                else:
                    _append_theirs(library, batch)
                samples.add(wanted * size / (time.perf_counter() - started))
        rows.append(compared(f"{what}, events/s", ours, theirs, unit="", digits=0, at_least=2))
    return rows


_Batch = list[tuple[str, int, list[NewEvent]]]


async def _append_ours(log: EventLog, batch: _Batch) -> None:
    for stream, version, events in batch:
        await log.append(stream, version, events)


def _append_theirs(library: PostgresApplicationRecorder, batch: _Batch) -> None:
    for stream, version, events in batch:
        originator = _originator(stream)
        library.insert_events(
            [
                StoredEvent(originator, version + n, type(new.event).__name__, encode_event(new.event).encode())
                for n, new in enumerate(events, 1)
            ]
        )
