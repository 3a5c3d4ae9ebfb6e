"""Two hundred watchers of the event stream, a quarter of whom never read: how late an event is, and what they cost."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
import uuid
from pathlib import Path
from typing import Final

from shared.adapters.postgres import EventLog
from shared.domain.events import AlertRaised, NewEvent
from tests.bench.samples import Samples
from tests.bench.table import Row, below

WATCHERS: Final = 200
NEVER_READ: Final = 50
EVENTS: Final = 40
FLOOD: Final = 4_000
LARGE: Final = "x" * 1_000
REQUEST: Final = b"GET /api/events/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


async def watched(port: int, pid: int, dsn: str) -> list[Row]:
    """The rows of the table."""
    before = _resident_mb(pid)
    log = EventLog(dsn)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(log.close)
        idle = [stack.enter_context(_silent(port)) for _ in range(NEVER_READ)]
        readers = [await _reader(port) for _ in range(WATCHERS - NEVER_READ)]
        late = Samples([await _lateness(log, readers) for _ in range(EVENTS)])
        reading = [asyncio.create_task(_drain(reader)) for reader, _ in readers]
        for _ in range(FLOOD // 100):
            await log.append("bench-watchers", None, [_event(LARGE) for _ in range(100)])
        await asyncio.sleep(2)
        after = _resident_mb(pid)
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        for _, writer in readers:
            writer.close()
        assert len(idle) == NEVER_READ
    grown = Samples([after - before])
    return [
        below(f"an event is with the last of {WATCHERS - NEVER_READ} watchers after", late, 300, unit=" ms", digits=0),
        below(f"{WATCHERS} watchers and {FLOOD:,} events of 1 KB cost", grown, 100, unit=" MB", digits=0),
    ]


def _event(evidence: str) -> NewEvent:
    return NewEvent(uuid.uuid4(), AlertRaised(kind="bench", evidence=evidence))


async def _lateness(log: EventLog, readers: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> float:
    """Milliseconds from the append to the last of those who read."""
    mark = uuid.uuid4().hex
    started = time.perf_counter()
    await log.append("bench-watchers", None, [_event(mark)])
    async with asyncio.timeout(30):
        await asyncio.gather(*(reader.readuntil(mark.encode()) for reader, _ in readers))
    taken = 1000 * (time.perf_counter() - started)
    await asyncio.sleep(0.2)
    return taken


async def _reader(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    writer.write(REQUEST)
    await reader.readuntil(b"retry:")
    return reader, writer


async def _drain(reader: asyncio.StreamReader) -> None:
    while await reader.read(2**16):
        pass


def _silent(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(REQUEST)
    return connection


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
