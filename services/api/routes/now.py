"""Where everything is, and what runs next."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from litestar import get

from services.api.asked import At
from services.api.given import TheClock, TheKept, TheLive, TheSettings
from services.api.guard import NARROWED
from services.api.status import Status, status_of
from shared.adapters.bus_layout import TRIGGERED_JOBS
from shared.config import Settings
from shared.domain.event import Job
from shared.domain.schedule import next_slot


class Scheduled(msgspec.Struct, frozen=True):
    """When a job of a host runs next."""

    job: Job
    host: str
    next_run: datetime
    trigger: str


@get("/api/status", summary="Where every host is in its pipeline", opt={NARROWED: True})
async def status(live: TheLive, kept: TheKept, settings: TheSettings, at: At = None) -> Status:
    """The status of all hosts, now or at a moment."""
    names: list[str] = [host.name for host in settings.hosts]
    return kept.status(live.state, names) if at is None else status_of(await live.as_of(at), names)


@get("/api/schedule", summary="What runs next", opt={NARROWED: True})
async def schedule(settings: TheSettings, clock: TheClock) -> list[Scheduled]:
    """The next slot of every job and host."""
    return scheduled(settings, clock.now())


def scheduled(settings: Settings, now: datetime) -> list[Scheduled]:
    """What runs next, in the order of time."""
    found = []
    for host in settings.hosts:
        for job in TRIGGERED_JOBS:
            hours = host.snapshot_interval_hours if job is Job.SNAPSHOT else settings.tar_interval_hours
            found.append(Scheduled(job, host.name, next_slot(hours, now), f"every {hours} h"))
    return sorted(found, key=lambda one: (one.next_run, one.host))


ROUTES: Final = (status, schedule)
