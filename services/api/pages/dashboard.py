"""The first page, that of each host, and the settings."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.response import Template

from services.api.asked import At, Name, known_host
from services.api.given import TheAskers, TheClock, TheKept, TheLive, TheSettings, TheWho
from services.api.guard import NARROWED
from services.api.kept import minute_of
from services.api.pages.about import about
from services.api.routes.now import scheduled
from services.api.unfinished import unfinished
from services.api.view import host_view, overview
from services.api.whose import state_for
from shared.adapters.threads import in_thread
from shared.config import Settings
from shared.domain.host_state import HostState
from shared.domain.inventory import facts_of_log, hold_of
from shared.domain.retention import plan


@get("/", include_in_schema=False, opt={NARROWED: True})
async def dashboard(
    *,
    request: Request[Any, Any, Any],
    live: TheLive,
    kept: TheKept,
    settings: TheSettings,
    clock: TheClock,
    who: TheWho,
    askers: TheAskers,
    at: At = None,
) -> Template | Response[bytes]:
    """How every host is doing, the worst first."""
    now, has_users = at or clock.now(), await askers.has_users()
    if at is not None:
        state = state_for(who, await live.as_of(at))
        return Template("dashboard.html", context=about(live, at, now) | overview(settings, state, now))
    whose = msgspec.structs.replace(who, token="", address="")  # neither is on the page
    key = (whose, has_users, live.state.position, live.log_is_away, minute_of(now))
    async with kept.turn:  # many who ask for the same new page wait for one that makes it
        page = kept.page(key)
        if page is None:
            shown = overview(settings, state_for(who, live.state), now, kept.card)
            keys = await in_thread(_keys, settings)
            steps = unfinished(settings, live.state, shown["drives"], keys=keys, has_users=has_users)
            page = kept.keep(key, made_of(request, about(live, None, now) | shown | {"steps": steps}))
    return Response(page, media_type=MediaType.HTML)


def made_of(request: Request[Any, Any, Any], context: dict[str, Any]) -> bytes:
    """The page as it is sent."""
    engine = request.app.template_engine
    if engine is None:
        raise RuntimeError("the application is made without templates")
    page: str = engine.get_template("dashboard.html").render(request=request, **context)
    return page.encode()


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


@get("/settings", include_in_schema=False, opt={NARROWED: True})
async def settings_page(live: TheLive, settings: TheSettings, clock: TheClock, who: TheWho, at: At = None) -> Template:
    """When what runs, and what is kept for how long; for a moment of the past, the settings that were in force."""
    state, now = state_for(who, await live.as_of(at)), at or clock.now()
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
