"""Postgres is killed at every step of a run of every job: before it hears of a step, or after it, unheard.

Each call that a run makes to the log is struck once in a run of its own. Then the log comes back, the tick comes again
as the bus would bring it, and the end is that of an undisturbed run: one event for each fact, nothing removed that was
not ordered, log and drive tell the same.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import asyncpg
import msgspec
import pytest

from services.archiver.handler import Archiver
from services.snapshotter.handler import Snapshotter
from services.snapshotter.rsync import Ability
from services.snapshotter.transfer import find_ability
from shared.adapters.postgres import EventLog
from shared.config import HostSettings
from shared.domain.errors import LogUnavailable
from shared.domain.events import (
    ArchiveCompleted,
    ArchiveStarted,
    Event,
    GoldenCompleted,
    Job,
    PointPurged,
    PointTrashed,
    PurgeOrdered,
    RemovalOrdered,
    RetentionCompleted,
    SnapshotCompleted,
    SnapshotStarted,
)
from shared.domain.messages import Tick
from shared.domain.names import snapshot_name
from shared.runtime.host_log import HostLog
from shared.runtime.outbox import Outbox
from shared.runtime.worker import Disposition, Done
from tests.support.builders import MAIN, SLOT
from tests.support.servers import SharedPostgres
from tests.support.stock import names_in
from tests.support.thinning import EXPIRED, EXPIRED_NAMES, Bench, OwnCancels, six_snapshots
from tests.support.trees import snapshot_of

DUE: Final = SLOT + timedelta(hours=1)
WAYS: Final = ("before", "after")
"""Each step is struck in one of both ways, in turn; the steps of a short job in both."""
TRIES: Final = 6
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


@dataclass
class Jobs:
    """A host with six snapshots, and the worker of each job."""

    place: Bench
    ability: Ability

    async def handle(self, job: Job) -> Disposition:
        """Work off the tick that is due."""
        place = self.place
        log = HostLog(place.log, Outbox(place.store, place.log))
        cancels, tick = OwnCancels(place.log), Tick(job, MAIN, place.host, DUE)
        match job:
            case Job.SNAPSHOT:
                args = (place.settings, place.store, log, cancels, self.ability, place.clock, "worker-1")
                return await Snapshotter(*args).handle(tick)
            case Job.ARCHIVE:
                return await Archiver(place.settings, place.store, log, cancels, place.clock, "worker-1").handle(tick)
            case _:
                return await place.retention.handle(tick)

    async def handle_until_done(self, job: Job) -> None:
        """Work it off as often as the bus brings it; what is not handled comes again, too."""
        for _ in range(TRIES):
            try:
                if await self.handle(job) == Done():
                    return
            except LogUnavailable:
                continue
        raise AssertionError(f"{job} is never done")


@asynccontextmanager
async def jobs(server: SharedPostgres, ability: Ability) -> AsyncIterator[Jobs]:
    """Everything anew, at the moment at which all jobs are due; what expired yesterday is in the trash since."""
    async with server.fresh_database() as database:
        admin = await asyncpg.connect(database.admin_dsn)
        async with six_snapshots(database, admin) as place:
            home = place.store.root.parent / "home"
            home.mkdir()
            (home / "file").write_text("content")
            host = HostSettings(name=place.host, transport="local", paths=(f"{home.parent}/./home",), excludes=())
            await place.change_settings(hosts=(host,), trash_hours=-1)
            await place.set_time(DUE + timedelta(minutes=1))
            yield Jobs(place, ability)
        admin.terminate()


def once(found: list[Any], count: int = 1) -> bool:
    return len(found) == count


async def judge(tried: Jobs, job: Job) -> None:
    """The end of an undisturbed run, and nothing twice."""
    place = tried.place
    await place.agree()
    # An order that nobody heard was recorded is given anew by the next run: it is a decision, and no fact.
    facts = [event for event in await place.events(Event) if not isinstance(event, PurgeOrdered)]
    told = Counter(msgspec.json.encode(event) for event in facts)
    assert max(told.values()) == 1, told.most_common(1)
    starts: dict[Job, type[Event]] = {Job.SNAPSHOT: SnapshotStarted, Job.ARCHIVE: ArchiveStarted}
    if job is Job.RETENTION:
        gone = sorted(f"{event.kind}/{event.point}" for event in await place.events(PointTrashed))
        assert gone == sorted(EXPIRED)
        orders = {f"{event.kind}/{event.point}" for event in await place.events(RemovalOrdered)}
        assert orders == set(EXPIRED)
        assert once(await place.events(RetentionCompleted))
        assert set(await place.purged()) <= set(EXPIRED)
        assert len(await place.events(PointPurged)) == len(set(await place.purged()))
        return
    assert names_in(place.folder, "hourly").issuperset(EXPIRED_NAMES)
    assert await place.events(RemovalOrdered) == []
    assert len(await place.events(starts[job])) >= 1
    if job is Job.SNAPSHOT:
        assert once([event for event in await place.events(SnapshotCompleted) if event.slot == DUE])
        assert snapshot_name(DUE) in names_in(place.folder, "hourly")
    else:
        assert once(await place.events(ArchiveCompleted))
        assert len(await place.events(GoldenCompleted)) <= 1
        assert once([name for name in names_in(place.folder, "archives") if name.endswith(".tar.gz")])


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
