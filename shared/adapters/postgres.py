"""The event log in Postgres: append, read, follow.

One connection per process carries the appends (a pool would cost a third of the speed), another the reads; both
are opened again when they break. Everything that means "not reachable now" is LogUnavailable.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from shared.adapters.database import Wire, connect
from shared.domain.audit import Link
from shared.domain.errors import LogConflict, LogRefused
from shared.domain.events import NewEvent, Recorded, decode_page, encode_event

PAGE_EVENTS: Final = 500
"""A page and what is made of it fit into the second-level cache of a processor: twice as many are a fifth slower."""
POLL_SECONDS: Final = 2.0
"""How long a follower sleeps at most: notifications only wake it earlier."""

NOT_OURS: Final = (
    "Is POSTGRES_DSN the role of this service? After an upgrade, `backup-manager provision` says anew who writes what."
)

_APPEND: Final = "SELECT first_position, last_version, duplicate FROM log.append($1, $2, $3, $4, $5)"
# A double is exact to the microsecond until 2100; with numeric, as in log.microseconds, pages would take twice as long.
# Lines, not one array: wrapping copies the whole page twice more (a quarter of the server's time).
EVENT_LINE: Final = """
    '[' || position || ',' || (date_part('epoch', recorded_at) * 1000000)::bigint
        || ',"' || stream || '",' || version || ',' || data::text || ']'"""
_STREAM: Final = f"""
    SELECT coalesce(string_agg({EVENT_LINE}, E'\\n' ORDER BY version), '')
      FROM log.events WHERE stream = $1 AND version > $2"""  # noqa: S608  # both parts are written here
_PAGE: Final = f"""
    SELECT coalesce(string_agg({EVENT_LINE}, E'\\n' ORDER BY position), '')
      FROM log.events WHERE position > $1 AND position <= $2"""  # noqa: S608
_NEWEST: Final = f"""
    SELECT coalesce(string_agg({EVENT_LINE}, E'\\n' ORDER BY position DESC), '')
      FROM (SELECT * FROM log.events WHERE {{condition}} ORDER BY {{order}} DESC LIMIT {{limit}}) found"""  # noqa: S608

_LINKS: Final = """
    SELECT position, stream, version, log.canonical(position, stream, version, id, type, log.microseconds(recorded_at),
                                                    data::text, meta::text), hash
      FROM log.events WHERE position > $1 AND position <= $2 ORDER BY position"""
_NEXT_POSITION: Final = "SELECT min(position) FROM log.events WHERE position > $1"


@dataclass(frozen=True, slots=True)
class Appended:
    """Where the events went. `duplicate`: they were there already."""

    first_position: int
    last_version: int
    duplicate: bool


class EventLog:
    """The log of everything that happened."""

    page_events = PAGE_EVENTS

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._writer = Wire(dsn)
        self._readers = (Wire(dsn), Wire(dsn))
        self._searcher = Wire(dsn)  # a search may take its time; nobody who follows the log waits for it

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.gather(*(link.close() for link in (self._writer, *self._readers, self._searcher)))

    async def append(self, stream: str, expected_version: int | None, events: Sequence[NewEvent]) -> Appended:
        """Record events at the end of a stream, all or none.

        `expected_version` is the version the decision was made on; None for facts that hold anyway. The same ids
        again change nothing. Raises LogConflict (decide again), LogUnavailable, LogRefused.
        """
        try:
            async with self._writer.use() as connection:
                row = await connection.fetchrow(
                    _APPEND,
                    stream,
                    expected_version,
                    [event.id for event in events],
                    [type(event.event).__name__ for event in events],
                    [encode_event(event.event) for event in events],
                )
        except asyncpg.SerializationError as error:
            raise LogConflict(stream, expected_version or 0, int(error.detail or 0)) from error
        except asyncpg.InsufficientPrivilegeError as error:
            raise LogRefused(f"The event log refuses an append to {stream}: {error}.", NOT_OURS) from error
        except asyncpg.PostgresError as error:
            raise LogRefused(f"The event log refuses an append to {stream}: {error}.") from error
        if row is None:
            raise LogRefused(f"The event log said nothing about an append to {stream}.")
        return Appended(row["first_position"], row["last_version"], row["duplicate"])

    async def has_event(self, event: UUID) -> bool:
        """Whether an event of this id is recorded."""
        async with self._readers[0].use() as connection:
            return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM log.events WHERE id = $1)", event))

    async def read_stream(self, stream: str, after_version: int = 0) -> list[Recorded]:
        """The events of one stream after a version, oldest first."""
        async with self._readers[0].use() as connection:
            return decode_page(str(await connection.fetchval(_STREAM, stream, after_version)))

    async def newest(self, condition: str, arguments: Sequence[object], limit: int, order: str) -> list[Recorded]:
        """The newest events that meet an SQL condition, newest first. Raises LogUnavailable."""
        async with self._searcher.use() as connection:
            query = _NEWEST.format(condition=condition, limit=int(limit), order=order)
            return decode_page(str(await connection.fetchval(query, *arguments)))

    async def head(self) -> int:
        """The newest position; 0 in an empty log."""
        async with self._readers[0].use() as connection:
            return int(await connection.fetchval("SELECT coalesce(max(position), 0) FROM log.events"))

    async def position_at(self, moment: datetime) -> int:
        """The newest position recorded at or before a moment; 0 before the first."""
        async with self._readers[0].use() as connection:
            return int(await connection.fetchval("SELECT log.position_at($1)", moment))

    async def pages(self, after: int = 0, upto: int | None = None) -> AsyncGenerator[list[Recorded], None]:
        """The log after a position, in pages, oldest first; the next page is fetched while one is worked on.

        Until the last page was taken, the process collects no cycles.
        """
        end = await self.head() if upto is None else upto
        starts = range(after, end, self.page_events)
        ahead: asyncio.Task[str] | None = None
        with _collector_at_rest():
            try:
                for number, start in enumerate(starts):
                    text = await (ahead or self._page(number, start, end))
                    following = starts[number + 1 : number + 2]
                    ahead = asyncio.create_task(self._page(number + 1, following[0], end)) if following else None
                    await asyncio.sleep(0)  # lets the request for the next page leave before this one is decoded
                    yield decode_page(text)
            finally:
                if ahead is not None:
                    ahead.cancel()
                    await asyncio.gather(ahead, return_exceptions=True)

    async def _page(self, number: int, start: int, end: int) -> str:
        async with self._readers[number % 2].use() as connection:
            return str(await connection.fetchval(_PAGE, start, min(start + self.page_events, end)))

    async def links(self, after: int, upto: int) -> AsyncIterator[list[Link]]:
        """What the hash chain is made of, in pages; the database builds the bytes that were hashed."""
        start = after
        while start < upto:
            end = min(start + PAGE_EVENTS, upto)
            async with self._readers[0].use() as connection:
                rows = await connection.fetch(_LINKS, start, end)
                # A forged position may be astronomically far away: a gap is stepped over at once.
                following = await connection.fetchval(_NEXT_POSITION, end)
            yield [Link(*row) for row in rows]
            start = upto if following is None else following - 1

    async def anchor(self) -> tuple[int, bytes] | None:
        """Anchor the head of the chain in the log; returns its position and hash, or None for an empty log."""
        async with self._writer.use() as connection:
            row = await connection.fetchrow("SELECT anchored, head FROM log.anchor()")
            return None if row is None else (row["anchored"], row["head"])

    async def anchors(self) -> list[tuple[int, bytes]]:
        """The anchored positions with the hash that was there."""
        async with self._readers[0].use() as connection:
            rows = await connection.fetch("SELECT position, hash FROM log.anchors ORDER BY position")
            return [(row["position"], row["hash"]) for row in rows]

    async def follow(self, after: int) -> AsyncGenerator[list[Recorded], None]:
        """Everything after a position, for ever; an empty page means: caught up.

        Notifications only wake it: it always reads from its own position, and looks every POLL_SECONDS anyway.
        Raises LogUnavailable when the log goes away; the caller follows again from where it was.
        """
        woken = asyncio.Event()
        async with self._listening(woken):
            position = after
            while True:
                async for page in self.pages(position):
                    position = page[-1].position
                    yield page
                yield []
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await woken.wait()
                woken.clear()

    @contextlib.asynccontextmanager
    async def _listening(self, woken: asyncio.Event) -> AsyncIterator[None]:
        listener = await connect(self._dsn)
        try:
            listener.add_termination_listener(lambda _: woken.set())
            await listener.add_listener("events", lambda *_: woken.set())
            yield
        finally:
            listener.terminate()


@contextlib.contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Keep the garbage collector from going through all events, again and again, for cycles that none of them is in.

    A replay of a million would take a fifth longer.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
