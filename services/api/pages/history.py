"""What happened: the event log for people."""

from __future__ import annotations

from typing import Final, TypeAlias

from litestar import get
from litestar.params import FromQuery
from litestar.response import Template

from services.api.given import TheClock, TheLive, TheLog, TheWho
from services.api.guard import NARROWED
from services.api.pages.about import about
from shared.domain.access import hears
from shared.domain.words import in_words

RECENT_EVENTS: Final = 50

Before: TypeAlias = FromQuery[int | None]


@get("/events", include_in_schema=False, opt={NARROWED: True})
async def events_page(
    live: TheLive, event_log: TheLog, clock: TheClock, who: TheWho, before: Before = None
) -> Template:
    """The event log, newest first."""
    head = await event_log.head()
    upto = head if before is None else max(0, min(head, before - 1))
    found = [recorded async for page in event_log.pages(max(0, upto - RECENT_EVENTS), upto) for recorded in page]
    rows = [(recorded, in_words(recorded.event)) for recorded in reversed(found) if hears(who, recorded.stream)]
    context = about(live, None, clock.now()) | {"rows": rows, "older": found[0].position if found else None}
    return Template("events.html", context=context)


PAGES: Final = (events_page,)
