"""The first page and that of each host, with their buttons."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec
from litestar import get, post
from litestar.params import URLEncodedBody
from litestar.response import Redirect, Template

from services.api.asked import At, Name, known_host
from services.api.given import TheBus, TheClock, TheLive, TheSettings, TheWho
from services.api.guard import NARROWED
from services.api.pages.about import about
from services.api.routes.wishes import RUN, TriggerBody, wish_for
from services.api.view import host_view, overview
from services.api.whose import state_for
from shared.domain.event import Job
from shared.domain.host_state import HostState
from shared.domain.inventory import facts_of_log, hold_of
from shared.domain.messages import Cancel
from shared.domain.retention import plan


class Wanted(msgspec.Struct, frozen=True):
    """What a button asks for."""

    job: Job = Job.SNAPSHOT


Form: TypeAlias = URLEncodedBody[Wanted]


@get("/", include_in_schema=False, opt={NARROWED: True})
async def dashboard(live: TheLive, settings: TheSettings, clock: TheClock, who: TheWho, at: At = None) -> Template:
    """How every host is doing, the worst first."""
    state, now = state_for(who, await live.as_of(at)), at or clock.now()
    return Template("dashboard.html", context=about(live, at, now) | overview(settings, state, now))


@get("/hosts/{host:str}", include_in_schema=False)
async def host_page(live: TheLive, settings: TheSettings, clock: TheClock, host: Name, at: At = None) -> Template:
    """One host: its restore points and what is planned for them."""
    name, now = known_host(settings, host), at or clock.now()
    state = (await live.as_of(at)).hosts.get(name, HostState())
    made = plan(facts_of_log(state, now), settings.policy(), now, hold_of(state))
    return Template("host.html", context=about(live, at, now) | host_view(settings, name, state, made, now))


@post("/hosts/{host:str}/run", include_in_schema=False, opt=RUN)
async def run(*, live: TheLive, settings: TheSettings, bus: TheBus, who: TheWho, host: Name, data: Form) -> Redirect:
    """Ask for a run, then show the host."""
    body = TriggerBody((known_host(settings, host),), data.job)
    await wish_for(live.state, settings, bus, body, by=who.by("dashboard"))
    return Redirect(f"/hosts/{host}", status_code=303)


@post("/hosts/{host:str}/cancel", include_in_schema=False, opt=RUN)
async def call_off(settings: TheSettings, bus: TheBus, who: TheWho, host: Name) -> Redirect:
    """Call the host's work off, then show the host."""
    await bus.publish_cancel(Cancel(known_host(settings, host), who.by("dashboard")))
    return Redirect(f"/hosts/{host}", status_code=303)


PAGES: Final = (dashboard, host_page, run, call_off)
