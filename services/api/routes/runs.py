"""Runs: what goes on, how what ended went, and everything that one of them recorded."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias
from uuid import UUID

import msgspec
from litestar import get
from litestar.params import FromPath, QueryParameter

from services.api.asked import At, Name, known_host
from services.api.feed import Told, told
from services.api.given import TheLive, TheLog, TheSettings, TheWho
from services.api.guard import NARROWED
from services.api.problems import NotThere
from services.api.runs import Run, ended_run, running, types_of
from services.api.whose import shown_to, state_for
from shared.adapters.log_search import Wanted, find
from shared.adapters.postgres import EventLog
from shared.config import Settings
from shared.domain.access import Who, hears
from shared.domain.event import Job
from shared.domain.events import Recorded
from shared.domain.names import HostName, host_stream
from shared.domain.projection import State

MOST_RUNS: Final = 500
MOST_EVENTS_OF_A_RUN: Final = 1_000
LARGEST_POSITION: Final = 2**63 - 1

Outcome: TypeAlias = Literal["running", "completed", "failed", "cancelled", "abandoned"]
OfHost = Annotated[str | None, QueryParameter(name="host", description="Only runs of this host.", required=False)]
OfJob = Annotated[Job | None, QueryParameter(name="job", description="Only runs of this job.", required=False)]
OfOutcome = Annotated[Outcome | None, QueryParameter(name="outcome", description="Only these.", required=False)]
Before = Annotated[
    int, QueryParameter(name="before", ge=1, le=LARGEST_POSITION, description="Only what is before this position.")
]
Limit = Annotated[int, QueryParameter(ge=1, le=MOST_RUNS)]


class Chosen(msgspec.Struct, frozen=True):
    """Which runs somebody wants to see."""

    host: str | None = None
    job: Job | None = None
    outcome: Outcome | None = None
    before: int = LARGEST_POSITION


@get("/api/runs", summary="Runs, the newest first", opt={NARROWED: True})
async def runs(
    *,
    live: TheLive,
    event_log: TheLog,
    settings: TheSettings,
    who: TheWho,
    of_host: OfHost = None,
    of_job: OfJob = None,
    of_outcome: OfOutcome = None,
    before: Before = LARGEST_POSITION,
    limit: Limit = 50,
    at: At = None,
) -> list[Run]:
    """What goes on comes first, then what ended, the newest first. For more: `before` = its last position."""
    host = None if of_host is None else known_host(settings, of_host)
    chosen = Chosen(host, of_job, of_outcome, before)
    return await runs_of(state_for(who, await live.as_of(at)), event_log, who, chosen, limit)


async def runs_of(state: State, events: EventLog, who: Who, chosen: Chosen, limit: int) -> list[Run]:
    """The runs that were chosen and exist for whoever asks, up to the state. Raises LogUnavailable."""
    host = chosen.host
    first_page = chosen.before == LARGEST_POSITION and chosen.outcome in {None, "running"}
    going_on = list(running(state, host, chosen.job)) if first_page else []
    if chosen.outcome == "running":
        return going_on
    wanted = Wanted(
        types=types_of(chosen.job, chosen.outcome),
        stream=None if host is None else host_stream(HostName(host)),
        before=chosen.before,
        upto=state.position,
    )
    return going_on + [ended_run(shown_to(who, recorded)) for recorded in await _heard(events, who, wanted, limit)]


async def _heard(events: EventLog, who: Who, wanted: Wanted, limit: int) -> list[Recorded]:
    """What was found and is for whoever asks; more is looked for until there is enough."""
    heard: list[Recorded] = []
    while True:
        found = await find(events, wanted, limit)
        heard += [recorded for recorded in found if hears(who, recorded.stream)]
        if len(found) < limit or len(heard) >= limit:
            return heard[:limit]
        wanted = msgspec.structs.replace(wanted, before=found[-1].position)


@get("/api/hosts/{host:str}/runs/{run:uuid}", summary="Everything that one run recorded")
async def one_run(event_log: TheLog, settings: TheSettings, who: TheWho, host: Name, run: FromPath[UUID]) -> list[Told]:
    """The events of a run, oldest first."""
    return [told(shown_to(who, recorded)) for recorded in await events_of_run(event_log, settings, host, run)]


async def events_of_run(events: EventLog, settings: Settings, host: str, run: UUID) -> list[Recorded]:
    """The events of a run, oldest first. Raises NotThere and LogUnavailable."""
    wanted = Wanted(stream=host_stream(known_host(settings, host)), run=run)
    found = await find(events, wanted, MOST_EVENTS_OF_A_RUN)
    if not found:
        raise NotThere(f"{host} never had a run {run}.", "GET /api/runs lists them.")
    return found[::-1]


ROUTES: Final = (runs, one_run)
