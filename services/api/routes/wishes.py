"""Wishes: a run now, a dry run, and calling one off. They go over the bus."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec
from litestar import post
from litestar.params import JSONBody

from services.api.asked import Name, known_host
from services.api.given import TheBus, TheLive, TheSettings, TheWho
from services.api.guard import NARROWED
from services.api.problems import AlreadyRunning, NotThere
from shared.adapters.bus_layout import TRIGGERED_JOBS
from shared.adapters.jetstream import Bus
from shared.config import Settings
from shared.domain.access import Permission
from shared.domain.errors import MessageRefused
from shared.domain.event import Job
from shared.domain.host_state import HostState
from shared.domain.messages import Cancel, Trigger
from shared.domain.projection import State

RUN: Final = {"needs": Permission.RUN, NARROWED: True}


class Wish(msgspec.Struct, frozen=True):
    """A wish that the bus has taken; `wish` is its number there."""

    wish: int
    hosts: tuple[str, ...]


class TriggerBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For whom, and which job; all hosts and a snapshot when left out."""

    hosts: tuple[str, ...] | None = None
    job: Job = Job.SNAPSHOT


Wished: TypeAlias = JSONBody[TriggerBody | None]


class Done(msgspec.Struct, frozen=True):
    """What was done, in a sentence."""

    detail: str


@post("/api/trigger", status_code=202, summary="Ask for a run now", opt=RUN)
async def trigger(live: TheLive, settings: TheSettings, bus: TheBus, who: TheWho, data: Wished = None) -> Wish:
    """Ask for a job of some hosts, or of all. 409 when it is running for every one of them."""
    return await wish_for(live.state, settings, bus, data or TriggerBody(), by=who.by("api"))


@post("/api/trigger/dry-run", status_code=202, summary="Try whether a run would go well", opt=RUN)
async def trigger_dry_run(live: TheLive, settings: TheSettings, bus: TheBus, who: TheWho, data: Wished = None) -> Wish:
    """Ask for a dry run; its findings appear as an event."""
    return await wish_for(live.state, settings, bus, data or TriggerBody(), by=who.by("api"), dry_run=True)


async def wish_for(
    state: State, settings: Settings, bus: Bus, body: TriggerBody, *, by: str, dry_run: bool = False
) -> Wish:
    """Put a wish on the bus. Raises NotThere, AlreadyRunning and BusUnavailable."""
    if body.job not in TRIGGERED_JOBS:
        raise MessageRefused("A trigger does not say what to restore.", "POST /api/hosts/{host}/restores does.")
    names = tuple(host.name for host in settings.hosts) if body.hosts is None else tuple(dict.fromkeys(body.hosts))
    for name in names:
        known_host(settings, name)
    if not names:
        raise NotThere("There are no hosts to run for.", "Add them to HOSTS in .env.")
    if not dry_run and all(_is_running(state, name, body.job) for name in names):
        raise AlreadyRunning(f"The {body.job} of {', '.join(names)} is running already.", "Wait, or cancel it.")
    number = await bus.publish_trigger(Trigger(names, body.job, dry_run, by))
    return Wish(number, names)


def _is_running(state: State, name: str, job: Job) -> bool:
    run = state.hosts.get(name, HostState()).run_of(job)
    return run is not None and run.outcome == "running"


@post("/api/cancel/{host:str}", status_code=202, summary="Call a host's work off", opt=RUN)
async def cancel(settings: TheSettings, bus: TheBus, who: TheWho, host: Name) -> Done:
    """Call off what is under way or waiting for a host. A transfer under way completes."""
    await bus.publish_cancel(Cancel(known_host(settings, host), who.by("api")))
    return Done(f"What is under way for {host} is called off.")


ROUTES: Final = (trigger, trigger_dry_run, cancel)
