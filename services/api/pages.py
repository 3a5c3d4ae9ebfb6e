"""The pages, for people. Without JavaScript everything works; with it, they stay as new as the log."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, TypeAlias

import msgspec
from litestar import get, post
from litestar.params import FromQuery, URLEncodedBody
from litestar.response import Redirect, Template

from services.api.given import TheBus, TheClock, TheLive, TheLog, TheSettings
from services.api.live import Live
from services.api.routes import At, Name, TriggerBody, known_host, wish_for
from services.api.view import host_view, overview
from shared.domain.events import Job
from shared.domain.host_state import HostState
from shared.domain.inventory import facts_of_log, hold_of
from shared.domain.messages import Cancel
from shared.domain.retention import plan
from shared.domain.words import in_words

RECENT_EVENTS: Final = 50


class Wanted(msgspec.Struct, frozen=True):
    """What a button asks for."""

    job: Job = Job.SNAPSHOT


Before: TypeAlias = FromQuery[int | None]
Form: TypeAlias = URLEncodedBody[Wanted]


@get("/", include_in_schema=False)
async def dashboard(live: TheLive, settings: TheSettings, clock: TheClock, at: At = None) -> Template:
    """How every host is doing, the worst first."""
    state, now = await live.as_of(at), at or clock.now()
    return Template("dashboard.html", context=_about(live, at, now) | overview(settings, state, now))


@get("/hosts/{host:str}", include_in_schema=False)
async def host_page(live: TheLive, settings: TheSettings, clock: TheClock, host: Name, at: At = None) -> Template:
    """One host: its restore points and what is planned for them."""
    name, now = known_host(settings, host), at or clock.now()
    state = (await live.as_of(at)).hosts.get(name, HostState())
    made = plan(facts_of_log(state, now), settings.policy(), now, hold_of(state))
    return Template("host.html", context=_about(live, at, now) | host_view(settings, name, state, made, now))


@get("/events", include_in_schema=False)
async def events_page(live: TheLive, event_log: TheLog, clock: TheClock, before: Before = None) -> Template:
    """The event log, newest first."""
    head = await event_log.head()
    upto = head if before is None else max(0, min(head, before - 1))
    found = [recorded async for page in event_log.pages(max(0, upto - RECENT_EVENTS), upto) for recorded in page]
    rows = [(recorded, in_words(recorded.event)) for recorded in reversed(found)]
    context = _about(live, None, clock.now()) | {"rows": rows, "older": found[0].position if found else None}
    return Template("events.html", context=context)


@post("/hosts/{host:str}/run", include_in_schema=False)
async def run(live: TheLive, settings: TheSettings, bus: TheBus, host: Name, data: Form) -> Redirect:
    """Ask for a run, then show the host."""
    body = TriggerBody((known_host(settings, host),), data.job)
    await wish_for(live.state, settings, bus, body, dry_run=False)
    return Redirect(f"/hosts/{host}", status_code=303)


@post("/hosts/{host:str}/cancel", include_in_schema=False)
async def call_off(settings: TheSettings, bus: TheBus, host: Name) -> Redirect:
    """Call the host's work off, then show the host."""
    await bus.publish_cancel(Cancel(known_host(settings, host), "dashboard"))
    return Redirect(f"/hosts/{host}", status_code=303)


def _about(live: Live, at: datetime | None, now: datetime) -> dict[str, Any]:
    return {"at": at, "now": now, "position": live.state.position, "log_is_away": live.log_is_away}


PAGES: Final = (dashboard, host_page, events_page, run, call_off)
