"""One host at the moment at which all its jobs are due, a worker for each, and the end that every run has to have."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg
import msgspec

from services.archiver.handler import Archiver
from services.snapshotter.handler import Snapshotter
from services.snapshotter.rsync import Ability
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

DUE: Final = SLOT + timedelta(hours=1)
TRIES: Final = 6


@dataclass
class Jobs:
    """A host with six snapshots, and the worker of each job."""

    place: Bench
    ability: Ability

    async def handle(self, job: Job, slot: datetime = DUE) -> Disposition:
        """Work off the tick that is due."""
        place = self.place
        log = HostLog(place.log, Outbox(place.store, place.log))
        cancels, tick = OwnCancels(place.log), Tick(job, MAIN, place.host, slot)
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
            await place.change_settings(
                hosts=(host,), trash_hours=-1, postgres_dsn=database.worker_dsn, nats_url="nats://nowhere"
            )
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
