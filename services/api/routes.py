"""The REST API. Everything that is read comes from the log; everything that is done goes over the bus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from litestar import get, post
from litestar.params import FromPath, HeaderParameter, JSONBody, QueryParameter
from litestar.response import ServerSentEvent, ServerSentEventMessage

from services.api.given import TheBus, TheClock, TheLive, TheLog, TheSettings
from services.api.live import Live
from services.api.problems import AlreadyRunning, NotThere
from services.api.status import HostStatus, Status, host_status, status_of
from shared.adapters.jetstream import Bus
from shared.adapters.postgres import EventLog
from shared.config import Settings
from shared.domain.events import Job, Recorded
from shared.domain.host_state import ArchiveState, GoldenState, HostState, SnapshotState
from shared.domain.inventory import facts_of_log, hold_of
from shared.domain.messages import Cancel, Trigger
from shared.domain.names import HostName, parse_host_name
from shared.domain.projection import State
from shared.domain.retention import RetentionPlan, plan
from shared.domain.schedule import next_slot

MOST_EVENTS: Final = 1_000
LONGEST_POLL_SECONDS: Final = 60.0
KEEP_ALIVE_SECONDS: Final = 15.0
FEWEST_SECONDS_BETWEEN: Final = 0.2

At = Annotated[
    datetime | None, QueryParameter(description="The moment to show, in ISO 8601; now when left out.", required=False)
]


LastEventId = Annotated[str, HeaderParameter(name="Last-Event-ID", required=False)]


class Scheduled(msgspec.Struct, frozen=True):
    """When a job of a host runs next."""

    job: Job
    host: str
    next_run: datetime
    trigger: str


class Wish(msgspec.Struct, frozen=True):
    """A wish that the bus has taken; `wish` is its number there."""

    wish: int
    hosts: tuple[str, ...]


class TriggerBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For whom, and which job; all hosts and a snapshot when left out."""

    hosts: tuple[str, ...] | None = None
    job: Job = Job.SNAPSHOT


Name: TypeAlias = FromPath[str]
Wished: TypeAlias = JSONBody[TriggerBody | None]


class Done(msgspec.Struct, frozen=True):
    """What was done, in a sentence."""

    detail: str


@get("/api/status", summary="Where every host is in its pipeline")
async def status(live: TheLive, settings: TheSettings, at: At = None) -> Status:
    """The status of all hosts, now or at a moment."""
    return status_of(await live.as_of(at), [host.name for host in settings.hosts])


@get("/api/schedule", summary="What runs next")
async def schedule(settings: TheSettings, clock: TheClock) -> list[Scheduled]:
    """The next slot of every job and host."""
    now, found = clock.now(), []
    for host in settings.hosts:
        for job in Job:
            hours = host.snapshot_interval_hours if job is Job.SNAPSHOT else settings.tar_interval_hours
            found.append(Scheduled(job, host.name, next_slot(hours, now), f"every {hours} h"))
    return sorted(found, key=lambda one: (one.next_run, one.host))


@post("/api/trigger", status_code=202, summary="Ask for a run now")
async def trigger(live: TheLive, settings: TheSettings, bus: TheBus, data: Wished = None) -> Wish:
    """Ask for a job of some hosts, or of all. 409 when it is running for every one of them."""
    return await wish_for(live.state, settings, bus, data or TriggerBody(), dry_run=False)


@post("/api/trigger/dry-run", status_code=202, summary="Try whether a run would go well")
async def trigger_dry_run(live: TheLive, settings: TheSettings, bus: TheBus, data: Wished = None) -> Wish:
    """Ask for a dry run; its findings appear as an event."""
    return await wish_for(live.state, settings, bus, data or TriggerBody(), dry_run=True)


async def wish_for(state: State, settings: Settings, bus: Bus, body: TriggerBody, *, dry_run: bool) -> Wish:
    """Put a wish on the bus. Raises NotThere, AlreadyRunning and BusUnavailable."""
    names = tuple(host.name for host in settings.hosts) if body.hosts is None else body.hosts
    for name in names:
        known_host(settings, name)
    if not names:
        raise NotThere("There are no hosts to run for.", "Add them to HOSTS in .env.")
    if not dry_run and all(_is_running(state, name, body.job) for name in names):
        raise AlreadyRunning(f"The {body.job} of {', '.join(names)} is running already.", "Wait, or cancel it.")
    number = await bus.publish_trigger(Trigger(names, body.job, dry_run, by="api"))
    return Wish(number, names)


def _is_running(state: State, name: str, job: Job) -> bool:
    run = state.hosts.get(name, HostState()).run_of(job)
    return run is not None and run.outcome == "running"


@post("/api/cancel/{host:str}", status_code=202, summary="Call a host's work off")
async def cancel(settings: TheSettings, bus: TheBus, host: Name) -> Done:
    """Call off what is under way or waiting for a host. A transfer under way completes."""
    await bus.publish_cancel(Cancel(known_host(settings, host), "api"))
    return Done(f"What is under way for {host} is called off.")


@get("/api/hosts", summary="All hosts")
async def hosts(live: TheLive, settings: TheSettings, at: At = None) -> dict[str, HostState]:
    """Everything that is known of every host."""
    state = await live.as_of(at)
    return {host.name: state.hosts.get(host.name, HostState()) for host in settings.hosts}


@get("/api/hosts/{host:str}", summary="One host")
async def one_host(live: TheLive, settings: TheSettings, host: Name, at: At = None) -> HostStatus:
    """The status of one host."""
    return host_status(await _state_of(live, settings, host, at))


@get("/api/hosts/{host:str}/snapshots", summary="Its snapshots, oldest first")
async def snapshots(live: TheLive, settings: TheSettings, host: Name, at: At = None) -> list[SnapshotState]:
    """The snapshots of a host."""
    found = (await _state_of(live, settings, host, at)).snapshots
    return [found[name] for name in sorted(found)]


@get("/api/hosts/{host:str}/archives", summary="Its archives, oldest first")
async def archives(live: TheLive, settings: TheSettings, host: Name, at: At = None) -> list[ArchiveState]:
    """The archives of a host."""
    return sorted((await _state_of(live, settings, host, at)).archives.values(), key=lambda archive: archive.slot)


@get("/api/hosts/{host:str}/golden", summary="Its golden copies, oldest first")
async def golden(live: TheLive, settings: TheSettings, host: Name, at: At = None) -> list[GoldenState]:
    """The golden copies of a host."""
    found = (await _state_of(live, settings, host, at)).golden
    return [found[name] for name in sorted(found)]


@get("/api/hosts/{host:str}/plan", summary="What would be removed, and why")
async def host_plan(live: TheLive, settings: TheSettings, clock: TheClock, host: Name, at: At = None) -> RetentionPlan:
    """The retention plan by the log alone: the drive may know better what is in use."""
    state, now = await _state_of(live, settings, host, at), at or clock.now()
    return plan(facts_of_log(state, now), settings.policy(), now, hold_of(state))


async def _state_of(live: Live, settings: Settings, host: str, at: datetime | None) -> HostState:
    return (await live.as_of(at)).hosts.get(known_host(settings, host), HostState())


def known_host(settings: Settings, name: str) -> HostName:
    """The host of this name. Raises NotThere."""
    host = parse_host_name(name)
    if settings.host(host) is None:
        raise NotThere(f"There is no host {name!r}.", "GET /api/hosts lists them.")
    return host


@get("/api/events", summary="The event log")
async def events(
    live: TheLive,
    event_log: TheLog,
    after: Annotated[int, QueryParameter(ge=0, description="Only events after this position.")] = 0,
    limit: Annotated[int, QueryParameter(ge=1, le=MOST_EVENTS)] = 100,
    wait_seconds: Annotated[float, QueryParameter(ge=0, le=LONGEST_POLL_SECONDS, description="Wait for one.")] = 0,
) -> list[dict[str, Any]]:
    """Events after a position, oldest first; with `wait_seconds` the answer comes as soon as there is one."""
    if wait_seconds:
        await live.change_after(after, wait_seconds)
    head = await event_log.head()
    found: list[dict[str, Any]] = []
    async for page in event_log.pages(after, min(head, after + limit)):
        found += [told(recorded) for recorded in page]
    return found


@get("/api/events/stream", summary="The event log as it grows (SSE)")
async def stream(live: TheLive, event_log: TheLog, last_event_id: LastEventId = "") -> ServerSentEvent:
    """Every event after `Last-Event-ID`, or from now on."""
    after = int(last_event_id) if last_event_id.isdigit() else live.state.position
    return ServerSentEvent(_messages(live, event_log, after))


async def _messages(live: Live, event_log: EventLog, after: int) -> AsyncIterator[ServerSentEventMessage]:
    position = after
    while True:
        if not await live.change_after(position, KEEP_ALIVE_SECONDS):
            yield ServerSentEventMessage(comment="still here")
            continue
        async for page in event_log.pages(position):
            for recorded in page:
                position = recorded.position
                data = msgspec.json.encode(told(recorded)).decode()
                yield ServerSentEventMessage(data=data, event="log", id=str(position))
        await asyncio.sleep(FEWEST_SECONDS_BETWEEN)


def told(recorded: Recorded) -> dict[str, Any]:
    """An event with its place in the log, as JSON says it."""
    return {
        "position": recorded.position,
        "recorded_at": recorded.recorded_us / 1_000_000,
        "stream": recorded.stream,
        "version": recorded.version,
        "event": msgspec.to_builtins(recorded.event),
    }


ROUTES: Final = (
    status,
    schedule,
    trigger,
    trigger_dry_run,
    cancel,
    hosts,
    one_host,
    snapshots,
    archives,
    golden,
    host_plan,
    events,
    stream,
)
