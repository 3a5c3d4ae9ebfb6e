"""The event log: page by page, and as it grows."""

from __future__ import annotations

from typing import Annotated, Final

from litestar import get
from litestar.params import HeaderParameter, QueryParameter

from services.api.event_stream import EventStream
from services.api.feed import Told, told
from services.api.given import TheClock, TheLive, TheLog, TheWho
from services.api.guard import NARROWED
from shared.adapters.postgres import EventLog
from shared.domain.access import Permission, Who, hears
from shared.domain.events import Recorded

MOST_EVENTS: Final = 1_000
LONGEST_POLL_SECONDS: Final = 60.0

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
    files = who.may(Permission.READ_FILES)
    return [told(recorded, files=files) for recorded in found]


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
async def stream(live: TheLive, who: TheWho, last_event_id: LastEventId = "") -> EventStream:
    """Every event after `Last-Event-ID`, or from now on."""
    after = int(last_event_id) if last_event_id else None
    return EventStream(live.feed.after(after, lambda of: hears(who, of), files=who.may(Permission.READ_FILES)))


ROUTES: Final = (events, stream)
