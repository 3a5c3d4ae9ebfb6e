"""Postgres is killed at every step of a run of every job: before it hears of a step, or after it, unheard.

Each call that a run makes to the log is struck once in a run of its own. Then the log comes back, the tick comes again
as the bus would bring it, and the end is that of an undisturbed run: one event for each fact, nothing removed that was
not ordered, log and drive tell the same.
"""

from __future__ import annotations

import functools
from contextlib import suppress
from typing import Any, Final

import pytest

from services.snapshotter.transfer import find_ability
from shared.adapters.postgres import EventLog
from shared.domain.errors import LogUnavailable
from shared.domain.events import (
    Job,
)
from shared.runtime.outbox import Outbox
from shared.runtime.worker import Disposition, Done
from tests.faults.due import jobs, judge
from tests.support.servers import SharedPostgres
from tests.support.stock import names_in
from tests.support.thinning import EXPIRED_NAMES
from tests.support.trees import snapshot_of

WAYS: Final = ("before", "after")
"""Each step is struck in one of both ways, in turn; the steps of a short job in both."""
LEAST_STEPS: Final = {Job.SNAPSHOT: 3, Job.ARCHIVE: 4, Job.RETENTION: 12}


class Killer:
    """Kills the log at one of the calls that are made to it; `number` counts them from 0."""

    def __init__(self, log: EventLog, server: SharedPostgres, number: int, way: str) -> None:
        self.server, self.number, self.way = server, number, way
        self.calls, self.struck = 0, False
        for name in ("append", "read_stream", "has_event"):
            setattr(log, name, functools.partial(self._called, getattr(log, name)))

    async def _called(self, real: Any, *args: Any) -> Any:
        mine, self.calls = self.calls, self.calls + 1
        if mine != self.number:
            return await real(*args)
        self.struck = True
        if self.way == "before":
            await self.server.kill()
            return await real(*args)
        await real(*args)
        await self.server.kill()
        raise LogUnavailable("The event log has taken it, and nobody heard that it did.", "")


@pytest.mark.campaign
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("job", "way"), [*((job, way) for job in (Job.SNAPSHOT, Job.ARCHIVE) for way in WAYS), (Job.RETENTION, "in turn")]
)
async def test_the_log_is_killed_at_every_step_of_a_run(shared_server: SharedPostgres, job: Job, way: str) -> None:
    ability = await find_ability(attributes=True)
    number = 0
    while True:
        async with jobs(shared_server, ability) as tried:
            before = {name: snapshot_of(tried.place.path / "hourly" / name) for name in EXPIRED_NAMES}
            this = WAYS[number % 2] if way == "in turn" else way
            killer = Killer(tried.place.log, shared_server, number, this)
            said: Disposition | None = None
            with suppress(LogUnavailable):  # the worker lets the tick come again
                said = await tried.handle(job)
            await shared_server.ensure_running()
            if not killer.struck:
                break
            if said != Done():  # a tick that is done comes no more
                await tried.handle_until_done(job)
            await Outbox(tried.place.store, tried.place.log).drain(tried.place.host)
            await judge(tried, job)
            await tried.handle_until_done(job)
            await judge(tried, job)
            for name in before.keys() & names_in(tried.place.folder, "hourly"):
                assert before[name] == snapshot_of(tried.place.path / "hourly" / name)
        number += 1
    assert number >= LEAST_STEPS[job], number
    print(job, way, number)  # noqa: T201  # how many steps there are
