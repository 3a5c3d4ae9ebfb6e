"""The event log: page by page, and as it grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Final

import msgspec
from litestar import get
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import ServerSentEvent, ServerSentEventMessage

from services.api.given import TheClock, TheLive, TheLog, TheWho
from services.api.guard import NARROWED
from services.api.live import Live
from shared.adapters.postgres import EventLog
from shared.domain.access import Who, hears
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


@get("/api/events", summary="The event log", opt={NARROWED: True})
async def events(
    *,
    live: TheLive,
    event_log: TheLog,
    clock: TheClock,
    who: TheWho,
    after: Annotated[int, QueryParameter(ge=0, description="Only events after this position.")] = 0,
    limit: Annotated[int, QueryParameter(ge=1, le=MOST_EVENTS)] = 100,
    wait_seconds: Annotated[float, QueryParameter(ge=0, le=LONGEST_POLL_SECONDS, description="Wait for one.")] = 0,
) -> list[Told]:
    """Events after a position, oldest first; with `wait_seconds` the answer comes as soon as there is one."""
    until = clock.monotonic() + wait_seconds
    if wait_seconds:
        await live.change_after(after, wait_seconds)
    found, seen = await _heard(event_log, who, after, limit)
    while not found and clock.monotonic() < until:  # what happened is not for this asker
        await live.change_after(seen, until - clock.monotonic())
        found, seen = await _heard(event_log, who, seen, limit)
    return [told(recorded) for recorded in found]


async def _heard(event_log: EventLog, who: Who, after: int, limit: int) -> tuple[list[Recorded], int]:
    """The next events that are for whoever asks, and the position up to which was looked."""
    found: list[Recorded] = []
    head, seen = await event_log.head(), after
    while seen < head and len(found) < limit:
        upto = min(head, seen + (limit if who.hosts is None else MOST_EVENTS))
        async for page in event_log.pages(seen, upto):
            found += [recorded for recorded in page if hears(who, recorded.stream)]
        seen = upto
    return found[:limit], seen


@get(
    "/api/events/stream",
    summary="The event log as it grows (SSE)",
    media_type="text/event-stream",
    opt={NARROWED: True},
)
async def stream(live: TheLive, event_log: TheLog, who: TheWho, last_event_id: LastEventId = "") -> ServerSentEvent:
    """Every event after `Last-Event-ID`, or from now on."""
    after = int(last_event_id) if last_event_id else live.state.position
    return ServerSentEvent(_messages(live, event_log, who, after))


async def _messages(live: Live, event_log: EventLog, who: Who, after: int) -> AsyncIterator[ServerSentEventMessage]:
    position = after
    while True:
        if not await live.change_after(position, KEEP_ALIVE_SECONDS):
            yield ServerSentEventMessage(comment="still here")
            continue
        async for page in event_log.pages(position):
            for recorded in page:
                position = recorded.position
                if not hears(who, recorded.stream):
                    continue
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
