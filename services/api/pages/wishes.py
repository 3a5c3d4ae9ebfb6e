"""What the buttons of the pages do: each asks for something, then shows the host."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec
from litestar import post
from litestar.params import URLEncodedBody
from litestar.response import Redirect

from services.api.asked import Name, known_host
from services.api.decide import decide
from services.api.given import TheBus, TheLive, TheLog, TheSettings, TheWho
from services.api.routes.holds import HoldBody, Reason, placed, released
from services.api.routes.wishes import TriggerBody, wish_for
from shared.domain.event import Job
from shared.domain.messages import Cancel


class Wanted(msgspec.Struct, frozen=True):
    """What a button asks for."""

    job: Job = Job.SNAPSHOT
    dry_run: Annotated[str, msgspec.Meta(max_length=10)] = ""


class Because(msgspec.Struct, frozen=True):
    """Why somebody wants it so."""

    reason: Reason


Form: TypeAlias = URLEncodedBody[Wanted]
ReasonForm: TypeAlias = URLEncodedBody[Because]


@post("/hosts/{host:str}/run", include_in_schema=False)
async def run(*, live: TheLive, settings: TheSettings, bus: TheBus, who: TheWho, host: Name, data: Form) -> Redirect:
    """Ask for a run, or for a dry run."""
    body = TriggerBody((known_host(settings, host),), data.job)
    await wish_for(live.state, settings, bus, body, by=who.by("dashboard"), dry_run=bool(data.dry_run))
    return _shown(host)


@post("/hosts/{host:str}/cancel", include_in_schema=False)
async def call_off(settings: TheSettings, bus: TheBus, who: TheWho, host: Name) -> Redirect:
    """Call the host's work off."""
    await bus.publish_cancel(Cancel(known_host(settings, host), who.by("dashboard")))
    return _shown(host)


@post("/hosts/{host:str}/hold", include_in_schema=False)
async def hold(
    *, live: TheLive, event_log: TheLog, settings: TheSettings, who: TheWho, host: Name, data: ReasonForm
) -> Redirect:
    """Remove nothing of the host any more."""
    body = HoldBody(data.reason)
    by = who.by("dashboard")
    await decide(live, event_log, known_host(settings, host), lambda state: placed(state, host, body, by))
    return _shown(host)


@post("/hosts/{host:str}/release", include_in_schema=False)
async def release(
    *, live: TheLive, event_log: TheLog, settings: TheSettings, who: TheWho, host: Name, data: ReasonForm
) -> Redirect:
    """Let retention go on."""
    name = known_host(settings, host)
    await decide(live, event_log, name, lambda state: released(state, host, data.reason, who.by("dashboard")))
    return _shown(host)


def _shown(host: str) -> Redirect:
    return Redirect(f"/hosts/{host}", status_code=303)


PAGES: Final = (run, call_off, hold, release)
