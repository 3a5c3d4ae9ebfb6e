"""Finding events in the real log: what is asked for, newest first, and by an index where there is much."""

from __future__ import annotations

import uuid

import asyncpg
import pytest

from shared.adapters.log_search import Wanted, find
from shared.adapters.postgres import EventLog
from shared.domain.events import (
    AlertRaised,
    AnyEvent,
    NewEvent,
    SnapshotCompleted,
    SnapshotFailed,
    SnapshotProgressed,
    SnapshotStarted,
)
from shared.domain.tally import OUTCOME_OF
from tests.support.builders import a_run, build, new


@pytest.fixture
async def filled(log: EventLog) -> EventLog:
    """Two hosts, three runs each: two went well, one failed."""
    for host in ("nas", "web"):
        for number in range(3):
            run = a_run()
            end: AnyEvent = build(SnapshotFailed, run=run) if number == 1 else build(SnapshotCompleted, run=run)
            story: list[AnyEvent] = [build(SnapshotStarted, run=run), build(SnapshotProgressed, run=run), end]
            await log.append(f"host-{host}", None, [NewEvent(uuid.uuid4(), event) for event in story])
    await log.append("host-nas", None, [new(build(AlertRaised))])
    return log


async def test_the_newest_come_first(filled: EventLog) -> None:
    found = await find(filled, Wanted(), 5)
    assert [one.position for one in found] == [19, 18, 17, 16, 15]


async def test_a_page_goes_on_before_the_last_one(filled: EventLog) -> None:
    first = await find(filled, Wanted(types=tuple(OUTCOME_OF)), 4)
    rest = await find(filled, Wanted(types=tuple(OUTCOME_OF), before=first[-1].position), 4)
    assert [one.position for one in first + rest] == [18, 15, 12, 9, 6, 3]


async def test_it_finds_by_host_type_and_run(filled: EventLog) -> None:
    failed = await find(filled, Wanted(stream="host-web", types=(SnapshotFailed,)), 10)
    assert [one.stream for one in failed] == ["host-web"]
    assert isinstance(failed[0].event, SnapshotFailed)
    of_run = await find(filled, Wanted(stream="host-web", run=failed[0].event.run), 10)
    assert [type(one.event) for one in of_run] == [SnapshotFailed, SnapshotProgressed, SnapshotStarted]


async def test_it_finds_between_two_moments(filled: EventLog, admin: asyncpg.Connection) -> None:
    since = await admin.fetchval("SELECT recorded_at FROM log.events WHERE position = 15")
    positions = [one.position for one in await find(filled, Wanted(since=since, upto=18), 10)]
    assert positions == [18, 17, 16]


async def test_nothing_is_found_where_nothing_is(log: EventLog) -> None:
    assert await find(log, Wanted(types=(AlertRaised,), stream="host-none"), 10) == []


@pytest.mark.parametrize(
    ("condition", "index"),
    [
        (f"type IN ({', '.join(repr(kind.__name__) for kind in OUTCOME_OF)})", "run_ends"),
        ("type IN ('SnapshotFailed', 'ArchiveFailed')", "rare_events"),
        ("type = 'HoldPlaced'", "rare_events"),
        ("stream = 'host-nas'", "events_stream_version_key"),
    ],
)
async def test_the_indexes_serve_what_the_pages_ask(
    filled: EventLog, admin: asyncpg.Connection, condition: str, index: str
) -> None:
    order = "version" if "stream" in condition else "position"
    async with admin.transaction():
        await admin.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        query = f"EXPLAIN SELECT * FROM log.events WHERE {condition} ORDER BY {order} DESC LIMIT 50"  # noqa: S608
        plan = "\n".join(row[0] for row in await admin.fetch(query))
    assert index in plan
