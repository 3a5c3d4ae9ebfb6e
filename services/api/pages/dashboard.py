"""The first page, that of each host, and the settings."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from litestar import MediaType, Request, Response, get
from litestar.response import Template

from services.api.asked import At, Name, known_host
from services.api.given import TheClock, TheKept, TheLive, TheSettings
from services.api.kept import minute_of
from services.api.live import Live
from services.api.pages.about import about
from services.api.routes.now import scheduled
from services.api.unfinished import unfinished
from services.api.view import MakeCard, host_view, overview
from shared.adapters.threads import in_thread
from shared.config import Settings
from shared.domain.host_state import HostState
from shared.domain.inventory import facts_of_log, hold_of
from shared.domain.retention import plan


@get("/", include_in_schema=False)
async def dashboard(  # noqa: PLR0917  # given by name
    request: Request[Any, Any, Any],
    live: TheLive,
    kept: TheKept,
    settings: TheSettings,
    clock: TheClock,
    at: At = None,
) -> Template | Response[bytes]:
    """How every host is doing, the worst first."""
    now = at or clock.now()
    if at is not None:
        return Template("dashboard.html", context=await _shown(live, settings, now, at, None))
    # Whoever has the same cookie and the same token gets the same page; what they may see changes with the log.
    whom = request.headers.get("cookie"), request.headers.get("authorization")
    key = (*whom, live.state.position, live.log_is_away, minute_of(now))
    async with kept.turn:  # many who ask for the same new page wait for one that makes it
        page = kept.page(key)
        if page is None:
            context = await _shown(live, settings, now, None, kept.card)
            page = kept.keep(key, made_of(request, context))
    return Response(page, media_type=MediaType.HTML)


def made_of(request: Request[Any, Any, Any], context: dict[str, Any]) -> bytes:
    """The page as it is sent."""
    engine = request.app.template_engine
    if engine is None:
        raise RuntimeError("the application is made without templates")
    page: str = engine.get_template("dashboard.html").render(**context)
    return page.encode()


async def _shown(
    live: Live, settings: Settings, now: datetime, at: datetime | None, make: MakeCard | None
) -> dict[str, Any]:
    keys = await in_thread(_keys, settings)
    state = await live.as_of(at)
    shown = overview(settings, state, now, make)
    steps = [] if at else unfinished(settings, state, shown["drives"], keys=keys, has_users=True)
    return about(live, at, now) | shown | {"steps": steps}


def _keys(settings: Settings) -> dict[str, bool]:
    """Of each host that is reached by SSH, whether there is a key for it."""
    return {host.name: host.key_path(settings).exists() for host in settings.hosts if host.transport != "local"}


@get("/hosts/{host:str}", include_in_schema=False)
async def host_page(live: TheLive, settings: TheSettings, clock: TheClock, host: Name, at: At = None) -> Template:
    """One host: its restore points and what is planned for them."""
    name, now = known_host(settings, host), at or clock.now()
    state = (await live.as_of(at)).hosts.get(name, HostState())
    made = plan(facts_of_log(state, now), settings.policy(), now, hold_of(state))
    return Template("host.html", context=about(live, at, now) | host_view(settings, name, state, made, now))


@get("/settings", include_in_schema=False)
async def settings_page(live: TheLive, settings: TheSettings, clock: TheClock, at: At = None) -> Template:
    """When what runs, and what is kept for how long; for a moment of the past, the settings that were in force."""
    state, now = await live.as_of(at), at or clock.now()
    described = settings.described() if at is None else state.settings
    general = {key: value for key, value in described.items() if not key.startswith("hosts.")}
    by_host: dict[str, dict[str, str]] = {}
    for key, value in described.items():
        if key.startswith("hosts."):
            _, host, name = key.split(".", 2)
            by_host.setdefault(host, {})[name] = value
    shown = {"general": general, "by_host": by_host, "due": [] if at else scheduled(settings, now)}
    return Template("settings.html", context=about(live, at, now) | shown)


PAGES: Final = (dashboard, host_page, settings_page)
