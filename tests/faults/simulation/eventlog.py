"""The event log in memory, with the semantics of `log.append`: gapless positions, versions, ids, expected versions."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Final
from uuid import UUID

from shared.adapters.postgres import Appended
from shared.domain.audit import GENESIS, Link
from shared.domain.errors import LogConflict, LogRefused, LogUnavailable
from shared.domain.events import NewEvent, Recorded, decode_event, encode_event

PAGE_EVENTS: Final = 500


class LogServer:
    """What all clients share. `now_us` is the server's clock."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self.events: list[Recorded] = []
        self.links: list[Link] = []
        self.ids: dict[UUID, Recorded] = {}
        self.streams: dict[str, list[Recorded]] = {}
        self.anchored: dict[int, bytes] = {}
        self.away = False
        self.changed = asyncio.Event()
        self.heard: Callable[[Recorded], None] = lambda _: None

    @property
    def head(self) -> bytes:
        """The hash of the newest event."""
        return self.links[-1].hash if self.links else GENESIS

    def set_away(self, *, away: bool) -> None:
        """Let the log go away or come back; who follows it notices."""
        self.away = away
        self._wake()

    def append(self, stream: str, expected: int | None, events: Sequence[NewEvent]) -> Appended:
        """What the function in the database does."""
        known = [self.ids[event.id] for event in events if event.id in self.ids]
        first = self.ids.get(events[0].id)
        if first is not None:
            here = [found for found in known if found.stream == stream]
            if len(here) == len(events):
                return Appended(first.position, max(found.version for found in here), duplicate=True)
            if here and expected is None:
                rest = self.append(stream, None, events[len(here) :])
                return Appended(first.position, rest.last_version, duplicate=False)
            raise LogRefused(f"The event log refuses an append to {stream}: {events[0].id} is recorded elsewhere.")
        version = len(self.streams.get(stream, ()))
        if expected is not None and expected != version:
            raise LogConflict(stream, expected, version)
        if known or len({event.id for event in events}) != len(events):
            raise LogRefused(f"The event log refuses an append to {stream}: an id is recorded already.")
        return self._add(stream, version, events)

    def _add(self, stream: str, version: int, events: Sequence[NewEvent]) -> Appended:
        start = len(self.events)
        at = max(self._now_us(), self.events[-1].recorded_us if self.events else 0)
        kept = self.streams.setdefault(stream, [])
        for number, event in enumerate(events, 1):
            text = encode_event(event.event)
            recorded = Recorded(start + number, at, stream, version + number, decode_event(text))
            canonical = f"{start + number}\n{stream}\n{version + number}\n{event.id}\n{at}\n{text}".encode()
            digest = hashlib.sha256(self.head + canonical).digest()
            self.links.append(Link(start + number, stream, version + number, canonical, digest))
            self.events.append(recorded)
            self.ids[event.id] = recorded
            kept.append(recorded)
            self.heard(recorded)
        self._wake()
        return Appended(start + 1, version + len(events), duplicate=False)

    def _wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class FakeLog:
    """A client of the log. `passage` is awaited before and after each call: it takes time, waits, or raises."""

    def __init__(self, server: LogServer, passage: Callable[[], Awaitable[None]]) -> None:
        self.server = server
        self._passage = passage

    async def close(self) -> None:
        """Close the connections."""

    async def _ask(self) -> None:
        await self._passage()
        if self.server.away:
            raise LogUnavailable("The event log cannot be reached: simulated.", "Is Postgres running?")

    async def append(self, stream: str, expected_version: int | None, events: Sequence[NewEvent]) -> Appended:
        """Record events; the answer may be lost on its way."""
        await self._ask()
        appended = self.server.append(stream, expected_version, events)
        await self._ask()
        return appended

    async def has_event(self, event: UUID) -> bool:
        """Whether an event of this id is recorded."""
        await self._ask()
        return event in self.server.ids

    async def read_stream(self, stream: str, after_version: int = 0) -> list[Recorded]:
        """The events of one stream after a version."""
        await self._ask()
        return self.server.streams.get(stream, [])[after_version:]

    async def head(self) -> int:
        """The newest position."""
        await self._ask()
        return len(self.server.events)

    async def pages(self, after: int = 0, upto: int | None = None) -> AsyncGenerator[list[Recorded], None]:
        """The log after a position, in pages."""
        end = await self.head() if upto is None else upto
        for start in range(after, end, PAGE_EVENTS):
            await self._ask()
            yield self.server.events[start : min(start + PAGE_EVENTS, end)]

    async def links(self, after: int, upto: int) -> AsyncIterator[list[Link]]:
        """What the hash chain is made of."""
        await self._ask()
        yield self.server.links[after:upto]

    async def anchor(self) -> tuple[int, bytes] | None:
        """Anchor the head."""
        await self._ask()
        if not self.server.events:
            return None
        self.server.anchored[len(self.server.events)] = self.server.head
        return len(self.server.events), self.server.head

    async def anchors(self) -> list[tuple[int, bytes]]:
        """The anchored positions with their hashes."""
        await self._ask()
        return sorted(self.server.anchored.items())

    async def follow(self, after: int) -> AsyncGenerator[list[Recorded], None]:
        """Everything after a position, for ever; an empty page means: caught up."""
        position = after
        while True:
            changed = self.server.changed
            async for page in self.pages(position):
                position = page[-1].position
                yield page
            yield []
            await changed.wait()
