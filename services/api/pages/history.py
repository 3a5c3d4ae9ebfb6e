"""What happened, for people: runs, each run, and the whole event log with the state of its chain."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, TypeAlias, get_args
from urllib.parse import urlencode
from uuid import UUID

from litestar import get
from litestar.params import FromPath, QueryParameter
from litestar.response import Template

from services.api.asked import At, Name, known_host
from services.api.given import TheChain, TheClock, TheLive, TheLog, TheSettings, TheWho
from services.api.guard import NARROWED
from services.api.pages.about import about
from services.api.problems import NotThere
from services.api.routes.runs import LARGEST_POSITION, Before, Chosen, OfHost, OfJob, OfOutcome, events_of_run, runs_of
from services.api.runs import began
from services.api.whose import shown_to, state_for
from shared.adapters.log_search import Wanted, find
from shared.domain.access import hears
from shared.domain.event import Event, Job
from shared.domain.events import AnyEvent, ArchiveProgressed, RestoreProgressed, SnapshotProgressed
from shared.domain.names import HOST_STREAM_PREFIX
from shared.domain.words import in_words

SHOWN_EVENTS: Final = 50
SHOWN_RUNS: Final = 40
TYPES: Final[dict[str, type[Event]]] = {kind.__name__: kind for kind in get_args(AnyEvent)}
PROGRESS: Final = (SnapshotProgressed, ArchiveProgressed, RestoreProgressed)
OUTCOMES: Final = ("running", "completed", "failed", "cancelled", "abandoned")

OfStream: TypeAlias = Annotated[str, QueryParameter(name="stream", max_length=100, required=False)]
OfType: TypeAlias = Annotated[str, QueryParameter(name="type", max_length=100, required=False)]


@get("/runs", include_in_schema=False, opt={NARROWED: True})
async def runs_page(
    *,
    live: TheLive,
    event_log: TheLog,
    settings: TheSettings,
    clock: TheClock,
    who: TheWho,
    of_host: OfHost = None,
    of_job: OfJob = None,
    of_outcome: OfOutcome = None,
    before: Before = LARGEST_POSITION,
    at: At = None,
) -> Template:
    """Every run, the newest first."""
    host = known_host(settings, of_host) if of_host else None
    state, chosen = state_for(who, await live.as_of(at)), Chosen(host, of_job, of_outcome, before)
    found = await runs_of(state, event_log, who, chosen, SHOWN_RUNS + 1)
    asked = {"host": host, "job": of_job, "outcome": of_outcome, "at": at.isoformat() if at else None}
    shown = {
        "runs": found[:SHOWN_RUNS],
        "older": _link(asked, before=found[SHOWN_RUNS - 1].position) if len(found) > SHOWN_RUNS else "",
        "chosen": asked,
        "hosts": sorted(one.name for one in settings.hosts),
        "jobs": [job.value for job in Job],
        "outcomes": OUTCOMES,
    }
    return Template("runs.html", context=about(live, at, at or clock.now()) | shown)


@get("/hosts/{host:str}/runs/{run:uuid}", include_in_schema=False)
async def run_page(
    *,
    live: TheLive,
    event_log: TheLog,
    settings: TheSettings,
    clock: TheClock,
    who: TheWho,
    host: Name,
    run: FromPath[UUID],
) -> Template:
    """Everything that one run recorded."""
    found = await events_of_run(event_log, settings, host, run)
    steps = [recorded for recorded in found if not isinstance(recorded.event, PROGRESS)]
    shown = {
        "host": host,
        "run": run,
        "began": began(run),
        "rows": [(recorded, in_words(shown_to(who, recorded).event)) for recorded in steps],
        "progress": len(found) - len(steps),
    }
    return Template("run.html", context=about(live, None, clock.now()) | shown)


@get("/events", include_in_schema=False, opt={NARROWED: True})
async def events_page(
    *,
    live: TheLive,
    event_log: TheLog,
    clock: TheClock,
    chain: TheChain,
    who: TheWho,
    of_stream: OfStream = "",
    of_type: OfType = "",
    before: Before = LARGEST_POSITION,
    at: At = None,
) -> Template:
    """The event log, newest first, and whether its chain holds."""
    if of_type and of_type not in TYPES:
        raise NotThere(f"There is no kind of event {of_type[:100]!r}.", "The list on /events has them all.")
    state = state_for(who, await live.as_of(at))
    wanted = Wanted(
        types=(TYPES[of_type],) if of_type else (),
        stream=of_stream or None,
        before=before,
        upto=state.position,
    )
    found = await find(event_log, wanted, SHOWN_EVENTS + 1)
    shown_to_them = [recorded for recorded in found[:SHOWN_EVENTS] if hears(who, recorded.stream)]
    rows = [(recorded, in_words(shown_to(who, recorded).event), _who(recorded.event)) for recorded in shown_to_them]
    asked = {"stream": of_stream or None, "type": of_type or None, "at": at.isoformat() if at else None}
    shown = {
        "rows": rows,
        "older": _link(asked, before=found[SHOWN_EVENTS - 1].position) if len(found) > SHOWN_EVENTS else "",
        "chosen": asked,
        "streams": sorted(
            {
                *(f"{HOST_STREAM_PREFIX}{name}" for name in state.hosts),
                "settings",
                *(f"store-{name}" for name in state.stores),
            }
        ),
        "types": [(name, _spaced(name)) for name in sorted(TYPES)],
        "chain": chain.state,
    }
    return Template("events.html", context=about(live, at, at or clock.now()) | shown)


def _who(event: Event) -> str:
    """Who did it: a person where one is named, else the worker."""
    return str(getattr(event, "by", "") or getattr(event, "worker", ""))


def _spaced(name: str) -> str:
    words = re.findall(r"[A-Z][a-z]*", name)
    return " ".join([words[0], *(word.lower() for word in words[1:])])


def _link(asked: Mapping[str, object], **more: object) -> str:
    return "?" + urlencode({key: value for key, value in {**asked, **more}.items() if value is not None})


PAGES: Final = (runs_page, run_page, events_page)
