"""The event log: page by page, and as it grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Final

import msgspec
from litestar import get
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import ServerSentEvent, ServerSentEventMessage

from services.api.given import TheLive, TheLog
from services.api.live import Live
from shared.adapters.postgres import EventLog
from shared.domain.events import AnyEvent, Recorded

MOST_EVENTS: Final = 1_000
LONGEST_POLL_SECONDS: Final = 60.0
KEEP_ALIVE_SECONDS: Final = 15.0
FEWEST_SECONDS_BETWEEN: Final = 0.2


class Told(msgspec.Struct, frozen=True):
    """An event with its place in the log; `recorded_at` is in seconds since 1970."""

    position: int
    recorded_at: float
    stream: str
    version: int
    event: AnyEvent


LastEventId = Annotated[str, HeaderParameter(name="Last-Event-ID", required=False, pattern=r"^[0-9]{0,18}$")]


@get("/api/events", summary="The event log")
async def events(
    live: TheLive,
    event_log: TheLog,
    after: Annotated[int, QueryParameter(ge=0, description="Only events after this position.")] = 0,
    limit: Annotated[int, QueryParameter(ge=1, le=MOST_EVENTS)] = 100,
    wait_seconds: Annotated[float, QueryParameter(ge=0, le=LONGEST_POLL_SECONDS, description="Wait for one.")] = 0,
) -> list[Told]:
    """Events after a position, oldest first; with `wait_seconds` the answer comes as soon as there is one."""
    if wait_seconds:
        await live.change_after(after, wait_seconds)
    head = await event_log.head()
    found: list[Told] = []
    async for page in event_log.pages(after, min(head, after + limit)):
        found += [told(recorded) for recorded in page]
    return found


@get("/api/events/stream", summary="The event log as it grows (SSE)", media_type="text/event-stream")
async def stream(live: TheLive, event_log: TheLog, last_event_id: LastEventId = "") -> ServerSentEvent:
    """Every event after `Last-Event-ID`, or from now on."""
    after = int(last_event_id) if last_event_id else live.state.position
    return ServerSentEvent(_messages(live, event_log, after))


async def _messages(live: Live, event_log: EventLog, after: int) -> AsyncIterator[ServerSentEventMessage]:
    position = after
    while True:
        if not await live.change_after(position, KEEP_ALIVE_SECONDS):
            yield ServerSentEventMessage(comment="still here")
            continue
        async for page in event_log.pages(position):
            for recorded in page:
                position = recorded.position
                data = msgspec.json.encode(told(recorded)).decode()
                yield ServerSentEventMessage(data=data, event="log", id=str(position))
        await asyncio.sleep(FEWEST_SECONDS_BETWEEN)


def told(recorded: Recorded) -> Told:
    """An event with its place in the log, as JSON says it."""
    return Told(
        recorded.position,
        recorded.recorded_us / 1_000_000,
        recorded.stream,
        recorded.version,
        recorded.event,
    )


ROUTES: Final = (events, stream)
