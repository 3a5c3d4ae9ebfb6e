"""The event log: page by page, and as it grows."""

from __future__ import annotations

from typing import Annotated, Final

from litestar import get
from litestar.params import HeaderParameter, QueryParameter

from services.api.event_stream import EventStream
from services.api.feed import Told, told
from services.api.given import TheLive, TheLog

MOST_EVENTS: Final = 1_000
LONGEST_POLL_SECONDS: Final = 60.0

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
async def stream(live: TheLive, last_event_id: LastEventId = "") -> EventStream:
    """Every event after `Last-Event-ID`, or from now on."""
    after = int(last_event_id) if last_event_id else None
    return EventStream(live.feed.after(after, _everything))


def _everything(_: str) -> bool:
    return True


ROUTES: Final = (events, stream)
