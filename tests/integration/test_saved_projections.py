"""Saved projections on a real database: a cache that shortens the way and that nothing ever depends on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from services.api import starting
from services.api.fold_worker import fill_gaps
from services.api.live import Live
from services.api.past import Past
from services.api.starting import first_state, restored
from shared.adapters.clock import SystemClock
from shared.adapters.postgres import EventLog
from shared.adapters.projections import Projections, current_shape
from shared.domain import saving
from shared.domain.events import NewEvent, Recorded
from shared.domain.packed import pack
from shared.domain.projection import State, replay
from shared.domain.saving import Mark
from tests.support.builders import SLOT, a_snapshot_story, alerts, everything
from tests.support.servers import BOUND_SECONDS, Database

pytestmark = pytest.mark.timeout(BOUND_SECONDS)
HOSTS = ("host-nas", "host-web", "host-old")
NOW_US = int(SystemClock().now().timestamp()) * 1_000_000


@pytest.fixture
async def saved(database: Database) -> AsyncIterator[Projections]:
    projections = Projections(database.worker_dsn)
    yield projections
    await projections.close()


async def a_history(log: EventLog, hours: int = 10) -> int:
    """A log of three hosts and of the settings; returns its head."""
    for hour in range(hours):
        for stream in HOSTS:
            await log.append(stream, None, a_snapshot_story(SLOT + timedelta(hours=hour)))
    return await log.head()


async def state_at(log: EventLog, position: int) -> State:
    return replay([await everything(log, position)])


async def save_at(log: EventLog, saved: Projections, position: int) -> None:
    await saved.save(position, pack(await state_at(log, position)))


async def test_what_is_saved_comes_back_and_the_nearest_before_is_taken(log: EventLog, saved: Projections) -> None:
    head = await a_history(log)
    for position in (10, 50):
        await save_at(log, saved, position)
    assert await restored(saved, head) == await state_at(log, 50)
    assert await restored(saved, 49) == await state_at(log, 10)
    assert await restored(saved, 9) == State()
    assert [mark.position for mark in await saved.marks()] == [10, 50]
    past = Past(log, saved)
    for position in (5, 10, 30, 70, head):
        assert await past.at(position) == await state_at(log, position)
    assert await past.at(30) is await past.at(30)


async def test_a_damaged_one_is_dropped_with_a_warning_and_an_older_one_taken(
    log: EventLog, saved: Projections, admin: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    head = await a_history(log)
    await save_at(log, saved, 10)
    await save_at(log, saved, 50)
    await admin.execute(
        "UPDATE log.projections SET content = overlay(content PLACING '\\x00' FROM 20) WHERE position = 50"
    )
    with caplog.at_level(logging.WARNING):
        assert await restored(saved, head) == await state_at(log, 10)
    assert "position 50 is damaged" in caplog.text
    assert [mark.position for mark in await saved.marks()] == [10]


async def test_what_another_fold_or_another_log_left_is_never_used(
    log: EventLog, saved: Projections, admin: asyncpg.Connection, database: Database
) -> None:
    head = await a_history(log)
    older = Projections(database.worker_dsn, "another shape")
    await save_at(log, older, 50)
    await older.close()
    assert await restored(saved, head) == State()
    await save_at(log, saved, 50)
    await admin.execute("UPDATE log.projections SET log_hash = sha256('another log') WHERE shape = $1", current_shape())
    assert await restored(saved, head) == State()
    await saved.drop([])
    assert await admin.fetchval("SELECT array_agg(shape) FROM log.projections") == ["another shape"]


async def test_several_processes_read_what_one_would(
    log: EventLog, saved: Projections, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = await a_history(log)
    await log.append("settings", None, alerts(3))
    monkeypatch.setattr(starting, "WORTH_PROCESSES_EVENTS", 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    found = await first_state(log, saved, database.worker_dsn, lambda *_: None)
    assert found == await state_at(log, head + 3)


async def test_when_the_processes_fail_one_reads_it_alone(
    log: EventLog, saved: Projections, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await a_history(log)
    monkeypatch.setattr(starting, "WORTH_PROCESSES_EVENTS", 10)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert await first_state(log, saved, "postgresql://nobody@/none?host=/nowhere", lambda *_: None) == State()
    assert "read by one process" in caplog.text


async def test_gaps_are_filled_so_that_no_tail_is_long(
    log: EventLog, saved: Projections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "MOST_EVENTS", 1_000)
    for number in range(5):
        await log.append(HOSTS[number % 3], None, alerts(900))
    head = await log.head()
    assert await fill_gaps(log, saved, NOW_US) >= 3
    marks = await saved.marks()
    assert saving.first_gap(marks, Mark(head, NOW_US), NOW_US) is None
    for mark in marks:
        assert await restored(saved, mark.position) == await state_at(log, mark.position)
    assert await fill_gaps(log, saved, NOW_US) == 0


@contextlib.asynccontextmanager
async def living(log: EventLog, saved: Projections, database: Database) -> AsyncIterator[Live]:
    live = Live(log, saved, database.worker_dsn, SystemClock())
    task = asyncio.create_task(live.run())
    try:
        await asyncio.wait_for(live.caught_up.wait(), 20)
        yield live
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def marks_after(saved: Projections, count: int) -> list[Mark]:
    async with asyncio.timeout(20):
        while len(marks := await saved.marks()) < count:  # noqa: ASYNC110  # another task saves them
            await asyncio.sleep(0.05)
    return marks


async def test_two_apis_save_one_between_them_and_the_next_start_begins_there(
    log: EventLog, saved: Projections, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        await a_history(log)
    head = await log.head()
    other = Projections(database.worker_dsn)
    async with living(log, saved, database) as live, living(log, other, database):
        assert [mark.position for mark in await marks_after(saved, 1)] == [head]
        assert live.state == await state_at(log, head)
    await other.close()
    reads: list[int] = []
    pages = EventLog.pages

    def noted(me: EventLog, after: int = 0, upto: int | None = None) -> AsyncGenerator[list[Recorded], None]:
        reads.append(after)
        return pages(me, after, upto)

    monkeypatch.setattr(EventLog, "pages", noted)
    await log.append(HOSTS[0], None, a_story())
    async with living(log, saved, database) as live:
        assert live.state.position == head + 3
        assert reads[0] == head
    monkeypatch.undo()
    assert live.state == await state_at(log, head + 3)


def a_story() -> list[NewEvent]:
    return a_snapshot_story(SLOT + timedelta(days=9))
