"""What happens, for everybody who watches: the log is read once, and each watcher has a bounded share of memory.

A watcher who does not keep up is cut off; its browser connects again and says which event it had last.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import Final

import msgspec

from shared.adapters.postgres import EventLog
from shared.domain.events import AnyEvent, Recorded
from shared.domain.veil import veiled

PAGE_EVENTS: Final = 500
MOST_BYTES_WAITING: Final = 1024 * 1024
KEEP_ALIVE_SECONDS: Final = 15.0
FEWEST_SECONDS_BETWEEN: Final = 0.1
"""What happens within this time is told at once: after an event that nobody waited for, nobody waits for the next."""
HELLO: Final = b"retry: 1000\n\n"
STILL_HERE: Final = b": still here\n\n"

Line = tuple[str, bytes, bytes]
"""The event stream that an event is of, and how it is told to whom may see files, and to others."""
Sees = Callable[[str], bool]


class Told(msgspec.Struct, frozen=True):
    """An event with its place in the log; `recorded_at` is in seconds since 1970."""

    position: int
    recorded_at: float
    stream: str
    version: int
    event: AnyEvent


class Feed:
    """Tells all watchers what is published."""

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._watchers: set[_Watcher] = set()
        self._newest = 0
        self._ended = False

    def begin(self, position: int) -> None:
        """What comes after this position will be published."""
        self._newest = position

    def publish(self, page: Sequence[Recorded]) -> None:
        """Tell everybody."""
        if not page:
            return
        self._newest = page[-1].position
        if self._watchers:
            lines = [_line(recorded) for recorded in page]
            size = sum(len(line) for _, line, _ in lines)
            for watcher in self._watchers:
                watcher.give(lines, size)

    def end(self) -> None:
        """Say good-bye to everybody."""
        self._ended = True
        for watcher in self._watchers:
            watcher.cut_off()

    async def after(self, position: int | None, sees: Sees, *, files: bool = True) -> AsyncGenerator[bytes, None]:
        """Everything after a position, or from now on, as far as it may be seen, until the feed ends or cuts off.

        Without `files`, the names of backed-up files are left out.
        """
        position = self._newest if position is None else position
        yield HELLO
        while not self._ended and self._newest - position > PAGE_EVENTS:
            upto = position + PAGE_EVENTS
            yield _text(await self._lines(position, upto), sees, files=files)
            position = upto
        watcher = _Watcher()
        self._watchers.add(watcher)
        try:
            if self._ended:
                return
            if position < self._newest:
                yield _text(await self._lines(position, self._newest), sees, files=files)
            async for lines in watcher.heard():
                yield _text(lines, sees, files=files) or STILL_HERE
        finally:
            self._watchers.discard(watcher)

    async def _lines(self, after: int, upto: int) -> list[Line]:
        return [_line(recorded) async for page in self._events.pages(after, upto) for recorded in page]


class _Watcher:
    """What one watcher has still to be told."""

    def __init__(self) -> None:
        self._waiting: deque[list[Line]] = deque()
        self._bytes = 0
        self._woken = asyncio.Event()
        self._cut_off = False

    def give(self, lines: list[Line], size: int) -> None:
        """Keep these for it, if there is room; the lines are shared by all watchers."""
        self._bytes += size
        if self._bytes > MOST_BYTES_WAITING:
            self.cut_off()
            return
        self._waiting.append(lines)
        self._woken.set()

    def cut_off(self) -> None:
        """It is told nothing more."""
        self._cut_off = True
        self._waiting.clear()
        self._woken.set()

    async def heard(self) -> AsyncIterator[list[Line]]:
        """What it was given, all that there is each time; nothing, when there was nothing for a while."""
        while True:
            try:
                async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                    await self._woken.wait()
            except TimeoutError:
                yield []
                continue
            if self._cut_off:
                return
            lines = [line for some in self._waiting for line in some]
            self._waiting.clear()
            self._bytes = 0
            self._woken.clear()
            yield lines
            await asyncio.sleep(FEWEST_SECONDS_BETWEEN)


def told(recorded: Recorded, *, files: bool = True) -> Told:
    """An event with its place in the log, as JSON says it; without `files`, names of backed-up files are left out."""
    return Told(
        recorded.position,
        recorded.recorded_us / 1_000_000,
        recorded.stream,
        recorded.version,
        recorded.event if files else veiled(recorded.event),
    )


def _line(recorded: Recorded) -> Line:
    whole = _message(recorded, recorded.event)
    without = veiled(recorded.event)
    return recorded.stream, whole, whole if without is recorded.event else _message(recorded, without)


def _message(recorded: Recorded, event: AnyEvent) -> bytes:
    shown = told(msgspec.structs.replace(recorded, event=event))
    return b"id: %d\nevent: log\ndata: %b\n\n" % (recorded.position, msgspec.json.encode(shown))


def _text(lines: list[Line], sees: Sees, *, files: bool) -> bytes:
    return b"".join(whole if files else without for stream, whole, without in lines if sees(stream))
