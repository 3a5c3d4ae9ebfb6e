"""The event log on a real Postgres: order, exactly once, conflicts, and what happens when the connection goes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta

import asyncpg
import pytest

from shared.adapters import postgres
from shared.adapters.postgres import EventLog
from shared.domain.errors import LogConflict, LogRefused, LogUnavailable
from shared.domain.events import NewEvent, Recorded
from shared.domain.host_state import EPOCH
from tests.support.builders import alerts, everything, new, one_of_each
from tests.support.servers import BOUND_SECONDS, Database, SharedPostgres

pytestmark = pytest.mark.timeout(BOUND_SECONDS)

WRITERS = 16
STREAMS = ("host-a", "host-b", "host-c")


@asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[EventLog]:
    events = EventLog(dsn)
    try:
        yield events
    finally:
        await events.close()


@pytest.fixture
async def other(database: Database) -> AsyncIterator[EventLog]:
    """Another process's view of the same log."""
    async with opened(database.api_dsn) as events:
        yield events


async def append_persistently(log: EventLog, stream: str, events: list[NewEvent]) -> None:
    """Send the same ids until the log says that it has them."""
    while True:
        try:
            await log.append(stream, None, events)
        except LogUnavailable:
            await asyncio.sleep(0.02)
            continue
        return


async def waiting_for_the_gate(admin: asyncpg.Connection) -> list[int]:
    """The server processes that stand in front of the gate, as soon as there is one."""
    find = "SELECT pid FROM pg_locks WHERE relation = 'log.gate'::regclass AND NOT granted"
    while not (rows := await admin.fetch(find)):  # noqa: ASYNC110  # the server tells nobody
        await asyncio.sleep(0.01)
    return [row["pid"] for row in rows]


def numbering(events: list[Recorded]) -> dict[str, list[int]]:
    versions: dict[str, list[int]] = {}
    for event in events:
        versions.setdefault(event.stream, []).append(event.version)
    return versions


async def test_every_type_of_event_comes_back_as_it_was_recorded(log: EventLog) -> None:
    events = one_of_each()
    appended = await log.append("host-a", 0, [new(event) for event in events])
    assert (appended.first_position, appended.last_version, appended.duplicate) == (1, len(events), False)
    kept = await everything(log)
    assert [event.event for event in kept] == events
    assert await log.read_stream("host-a") == kept


async def test_positions_have_no_gaps_versions_count_each_stream_and_time_never_goes_back(log: EventLog) -> None:
    for number in range(12):
        await log.append(STREAMS[number % 3], None, alerts(1 + number % 4))
    kept = await everything(log)
    assert [event.position for event in kept] == list(range(1, len(kept) + 1))
    assert await log.head() == len(kept)
    assert all(versions == list(range(1, len(versions) + 1)) for versions in numbering(kept).values())
    times = [event.recorded_us for event in kept]
    assert times == sorted(times)


async def test_a_clock_that_went_back_does_not_turn_time_back_in_the_log(
    log: EventLog, admin: asyncpg.Connection
) -> None:
    await log.append("host-a", None, alerts(1))
    await admin.execute("SET session_replication_role = replica")
    await admin.execute("UPDATE log.events SET recorded_at = clock_timestamp() + interval '1 hour'")
    await log.append("host-a", None, alerts(2))
    first, *later = await everything(log)
    assert {event.recorded_us for event in later} == {first.recorded_us}


async def test_only_the_events_of_the_stream_after_the_version_are_read(log: EventLog) -> None:
    await log.append("host-a", None, alerts(3))
    await log.append("host-b", None, alerts(2))
    await log.append("host-a", None, alerts(1))
    assert [event.version for event in await log.read_stream("host-a", after_version=2)] == [3, 4]
    assert await log.read_stream("host-c") == []


async def test_another_expected_version_is_a_conflict_that_names_the_actual_one(log: EventLog) -> None:
    await log.append("host-a", 0, alerts(3))
    for wrong in (0, 2, 4, 99):
        with pytest.raises(LogConflict) as caught:
            await log.append("host-a", wrong, alerts(1))
        assert caught.value.actual_version == 3
    with pytest.raises(LogConflict) as caught:
        await log.append("host-new", 1, alerts(1))
    assert caught.value.actual_version == 0
    assert await log.head() == 3
    await log.append("host-a", 3, alerts(1))


async def test_of_two_who_decided_on_the_same_version_exactly_one_wins(log: EventLog, other: EventLog) -> None:
    results = await asyncio.gather(
        *(events.append("host-a", 0, alerts(1)) for events in (log, other)), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["Appended", "LogConflict"]


async def test_sending_the_same_ids_again_changes_nothing_and_says_the_same(log: EventLog) -> None:
    await log.append("host-b", None, alerts(2))
    events = alerts(3)
    first = await log.append("host-a", 0, events)
    await log.append("host-a", 3, alerts(1))
    again = await log.append("host-a", 0, events)
    assert again.duplicate
    assert (again.first_position, again.last_version) == (first.first_position, first.last_version) == (3, 3)
    assert await log.head() == 6


async def test_of_a_longer_batch_only_the_rest_is_appended(log: EventLog) -> None:
    events = alerts(5)
    await log.append("host-a", None, events[:2])
    result = await log.append("host-a", None, events)
    assert (result.first_position, result.last_version, result.duplicate) == (1, 5, False)
    assert [event.event for event in await everything(log)] == [event.event for event in events]


async def test_an_id_that_is_recorded_in_another_stream_is_refused(log: EventLog) -> None:
    events = alerts(2)
    await log.append("host-a", None, events)
    with pytest.raises(LogRefused, match="already recorded elsewhere"):
        await log.append("host-b", None, events)
    with pytest.raises(LogRefused):
        await log.append("host-b", None, [*alerts(1), events[0]])
    assert await log.head() == 2


@pytest.mark.parametrize("stream", ["", "Host-a", "host a", 'a"b', "-a", "a\n", "a;b"])
async def test_a_name_that_is_no_event_stream_is_refused(log: EventLog, stream: str) -> None:
    with pytest.raises(LogRefused):
        await log.append(stream, None, alerts(1))
    assert await log.head() == 0


async def test_an_append_of_nothing_is_refused(log: EventLog) -> None:
    with pytest.raises(LogRefused, match="arrays"):
        await log.append("host-a", None, [])


async def test_it_knows_which_ids_are_recorded(log: EventLog) -> None:
    recorded, missing = alerts(2)
    await log.append("host-a", None, [recorded])
    assert await log.has_event(recorded.id)
    assert not await log.has_event(missing.id)


async def test_sixteen_writers_at_once_lose_nothing_and_a_reader_skips_nothing(
    database: Database, other: EventLog
) -> None:
    rounds, per_writer = 15, 30
    total = WRITERS * per_writer

    async def write(number: int) -> None:
        async with opened(database.worker_dsn) as own:
            for turn in range(rounds):
                events = alerts(per_writer // rounds, prefix=f"writer {number} turn {turn}:")
                await own.append(STREAMS[number % 3], None, events)

    async def follow() -> list[Recorded]:
        seen: list[Recorded] = []
        async with aclosing(other.follow(0)) as pages:
            async for page in pages:
                seen += page
                if len(seen) >= total:
                    return seen
        return seen

    following = asyncio.create_task(follow())
    await asyncio.gather(*(write(number) for number in range(WRITERS)))
    seen = await following
    assert [event.position for event in seen] == list(range(1, total + 1))
    assert all(versions == list(range(1, len(versions) + 1)) for versions in numbering(seen).values())
    said = Counter(event.event for event in seen)
    assert len(said) == total
    for number in range(WRITERS):
        own = [str(event.event) for event in seen if f"'writer {number} turn" in str(event.event)]
        assert len(own) == per_writer
        assert own == sorted(own, key=lambda text: int(text.split(" turn ")[1].split(":")[0]))


async def test_pages_are_whole_and_end_where_they_are_told(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    await log.append("host-a", None, alerts(25))
    monkeypatch.setattr(EventLog, "page_events", 10)
    for after, upto, sizes in (
        (0, None, [10, 10, 5]),
        (0, 20, [10, 10]),
        (3, 14, [10, 1]),
        (24, None, [1]),
        (25, None, []),
        (99, None, []),
        (5, 5, []),
        (5, 2, []),
    ):
        pages = [page async for page in log.pages(after, upto)]
        assert [len(page) for page in pages] == sizes
        positions = [event.position for page in pages for event in page]
        assert positions == list(range(after + 1, after + 1 + sum(sizes)))


async def test_a_reader_that_stops_after_the_first_page_leaves_the_log_usable(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.append("host-a", None, alerts(30))
    monkeypatch.setattr(EventLog, "page_events", 10)
    for _ in range(5):
        async with aclosing(log.pages()) as pages:
            assert len(await anext(pages)) == 10
    assert len(await everything(log)) == 30


async def test_more_than_one_page_of_the_real_size_is_read(log: EventLog) -> None:
    await log.append("host-a", None, alerts(postgres.PAGE_EVENTS + 100))
    assert [len(page) async for page in log.pages()] == [postgres.PAGE_EVENTS, 100]


async def test_a_moment_is_found_as_the_newest_position_recorded_by_then(log: EventLog) -> None:
    for size in (1, 3, 1, 2, 4):
        await log.append("host-a", None, alerts(size))
    kept = await everything(log)
    microsecond = timedelta(microseconds=1)
    for at_us in {event.recorded_us for event in kept}:
        moment = EPOCH + at_us * microsecond
        assert await log.position_at(moment) == max(e.position for e in kept if e.recorded_us <= at_us)
        assert await log.position_at(moment - microsecond) == max(
            (e.position for e in kept if e.recorded_us < at_us), default=0
        )
    assert await log.position_at(EPOCH) == 0
    assert await log.position_at(EPOCH + timedelta(days=365_000)) == len(kept)


async def test_in_an_empty_log_every_moment_is_before_the_first_event(log: EventLog) -> None:
    assert await log.position_at(EPOCH + timedelta(days=365_000)) == 0
    assert await log.head() == 0
    assert await everything(log) == []


async def test_a_follower_is_woken_by_what_others_append(
    log: EventLog, other: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "POLL_SECONDS", BOUND_SECONDS * 10)  # so only a notification can wake it in time
    await log.append("host-a", None, alerts(2))
    async with aclosing(log.follow(0)) as pages:
        assert [event.position for event in await anext(pages)] == [1, 2]
        for position in (3, 4, 5):
            assert await anext(pages) == []
            await other.append("host-b", None, alerts(1))
            assert [event.position for event in await anext(pages)] == [position]


async def test_a_follower_looks_by_itself_when_no_notification_comes(
    log: EventLog, other: EventLog, admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "POLL_SECONDS", 0.05)
    async with aclosing(log.follow(0)) as pages:
        for _ in range(5):
            assert await anext(pages) == []
        listening = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = "
        assert await admin.fetchval(f"{listening} current_database()")
        await other.append("host-a", None, alerts(1))
        while not (page := await anext(pages)):
            pass
        assert [event.position for event in page] == [1]


async def test_a_follower_starts_where_it_is_told(log: EventLog) -> None:
    await log.append("host-a", None, alerts(5))
    async with aclosing(log.follow(3)) as pages:
        assert [event.position for event in await anext(pages)] == [4, 5]


async def test_an_append_whose_connection_is_cut_is_unavailable_and_the_same_ids_again_are_recorded_once(
    log: EventLog, admin: asyncpg.Connection
) -> None:
    await log.append("host-a", None, alerts(1))
    events = alerts(3)
    async with admin.transaction():
        await admin.execute("LOCK TABLE log.gate")
        appending = asyncio.create_task(log.append("host-a", 1, events))
        for pid in await waiting_for_the_gate(admin):
            await admin.execute("SELECT pg_terminate_backend($1)", pid)
        with pytest.raises(LogUnavailable):
            await appending
    result = await log.append("host-a", 1, events)
    assert (result.first_position, result.last_version) == (2, 4)
    assert await log.head() == 4


async def test_writers_whose_connections_are_cut_again_and_again_record_everything_exactly_once(
    database: Database, log: EventLog, admin: asyncpg.Connection
) -> None:
    per_writer = 20
    # A connection that is just working, so that the cut falls into an append.
    cut = """SELECT count(pg_terminate_backend(pid)) FROM (
        SELECT pid FROM pg_stat_activity WHERE usename = 'backup_worker' AND datname = current_database()
         ORDER BY state = 'active' DESC, random() LIMIT 1) AS unlucky"""
    turn_to_cut = asyncio.Lock()
    cuts = 0

    async def write(number: int) -> None:
        nonlocal cuts
        async with opened(database.worker_dsn) as own:
            for turn in range(per_writer):
                events = alerts(2, prefix=f"writer {number} turn {turn}:")
                await append_persistently(own, f"host-{number}", events)
                async with turn_to_cut:
                    cuts += int(await admin.fetchval(cut))

    await asyncio.gather(*(write(number) for number in range(6)))
    assert cuts > 50
    async with opened(database.api_dsn) as reader:
        kept = await everything(reader)
    assert len({event.event for event in kept}) == len(kept) == 6 * per_writer * 2
    assert all(versions == list(range(1, len(versions) + 1)) for versions in numbering(kept).values())


async def test_after_a_killed_server_the_same_object_works_again(log: EventLog, shared_server: SharedPostgres) -> None:
    events = alerts(2)
    await log.append("host-a", None, events)
    await everything(log)
    await shared_server.kill()
    for call in (log.append("host-a", None, alerts(1)), log.head(), log.read_stream("host-a"), everything(log)):
        with pytest.raises(LogUnavailable):
            await call
    await shared_server.start()
    assert (await log.append("host-a", None, events)).duplicate
    await log.append("host-a", 2, alerts(1))
    assert [event.position for event in await everything(log)] == [1, 2, 3]


async def test_a_follower_learns_that_the_server_died_and_can_go_on_from_where_it_was(
    log: EventLog, shared_server: SharedPostgres
) -> None:
    await log.append("host-a", None, alerts(2))
    async with aclosing(log.follow(0)) as pages:
        assert len(await anext(pages)) == 2
        assert await anext(pages) == []
        await shared_server.kill()
        with pytest.raises(LogUnavailable):
            await anext(pages)
    await shared_server.start()
    await log.append("host-a", None, alerts(1))
    async with aclosing(log.follow(2)) as pages:
        assert [event.position for event in await anext(pages)] == [3]


async def test_a_user_with_a_wrong_password_is_refused_with_a_hint(database: Database) -> None:
    async with opened(database.worker_dsn.replace("backup_worker:", "backup_worker:not")) as log:
        with pytest.raises(LogRefused) as caught:
            await log.head()
        assert "POSTGRES_DSN" in caught.value.hint
