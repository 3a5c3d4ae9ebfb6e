"""The clock jumps, for hours, and comes back: no slot is skipped or done twice, nothing goes that should stay.

The real handlers of all jobs, the real drive and the real log, with a clock that a test sets, for the worker and for
the log alike, as on one machine. The clock of the machine that runs the tests is left alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

import asyncpg
import pytest

from services.archiver.handler import Archiver
from services.cli import decisions, session
from services.scheduler.handler import Scheduler
from services.snapshotter.handler import Snapshotter
from services.snapshotter.rsync import Ability
from services.snapshotter.transfer import find_ability
from shared.adapters.jetstream import Accepted, Bus
from shared.config import HostSettings
from shared.domain.events import (
    ArchiveCompleted,
    ClockTrusted,
    Job,
    PointPurged,
    RemovalOrdered,
    RetentionCompleted,
    SnapshotCompleted,
)
from shared.domain.host_state import HostState
from shared.domain.messages import Tick
from shared.domain.names import snapshot_name
from shared.domain.projection import State, evolve_host
from shared.runtime.host_log import HostLog
from shared.runtime.outbox import Outbox
from shared.runtime.rejected import Rejections
from tests.support.builders import HOST, MAIN, SLOT, some_settings
from tests.support.places import new_place
from tests.support.servers import Database
from tests.support.stock import put_snapshot
from tests.support.thinning import DAY, HOUR, Bench, OwnCancels, WatchedLog, bench, make_time_settable
from tests.support.trees import differences, snapshot_of

YEAR: Final = 365 * DAY
TRUE_START: Final = SLOT + timedelta(minutes=2)
JUMPS: Final = {
    "an hour ahead": lambda now: now + HOUR,
    "an hour behind": lambda now: now - HOUR,
    "a day ahead": lambda now: now + DAY,
    "a day behind": lambda now: now - DAY,
    "a year ahead": lambda now: now + YEAR,
    "a year behind": lambda now: now - YEAR,
    "1970": lambda now: datetime(1970, 1, 1, tzinfo=UTC) + (now - SLOT),
    "2038": lambda now: datetime(2038, 1, 19, 3, 10, tzinfo=UTC) + (now - SLOT),
}
RIGHT_HOURS, WRONG_HOURS, AGAIN_HOURS = 3, 2, 4
JOBS: Final = (Job.SNAPSHOT, Job.ARCHIVE, Job.RETENTION)


@dataclass
class Days:
    """One installation over some hours: what the scheduler publishes is worked off at once."""

    place: Bench
    ability: Ability
    scheduler: Scheduler
    ticks: list[Tick] = field(default_factory=list)

    async def publish_tick(self, tick: Tick) -> Accepted:
        """Be the bus."""
        self.ticks.append(tick)
        return Accepted.STORED

    async def hour(self, clock: datetime) -> None:
        """Work off what is due by a clock, as one machine does: worker, scheduler and log have the same."""
        await self.place.set_time(clock)
        (self.place.store.root.parent / "home/file").write_text(f"{clock} {len(self.ticks)}")
        for _ in JOBS:
            await self._follow()
            self.ticks.clear()
            await self.scheduler.publish_due(clock)
            for tick in self.ticks:
                await self.handle(tick)

    async def _follow(self) -> None:
        state = State()
        state.hosts[HOST] = await self.place.state()
        self.scheduler.state = state

    async def handle(self, tick: Tick) -> None:
        """Be the worker of the job."""
        place = self.place
        log, cancels = HostLog(place.log, Outbox(place.store, place.log)), OwnCancels(place.log)
        match tick.job:
            case Job.SNAPSHOT:
                args = (place.settings, place.store, log, cancels, self.ability, place.clock, "worker-1")
                await Snapshotter(*args).handle(tick)
            case Job.ARCHIVE:
                await Archiver(place.settings, place.store, log, cancels, place.clock, "worker-1").handle(tick)
            case Job.RETENTION:
                await place.retention.handle(tick)


@asynccontextmanager
async def days(database: Database, admin: asyncpg.Connection, **policy: Any) -> AsyncIterator[Days]:
    log = WatchedLog(database.worker_dsn)
    await make_time_settable(admin)
    settings = some_settings(tar_interval_hours=1, **policy)
    with new_place() as root:
        async with bench(root, log, admin, settings, TRUE_START) as place:
            (root / "home").mkdir()
            host = HostSettings(name=HOST, transport="local", paths=(f"{root}/./home",), excludes=())
            await place.change_settings(hosts=(host,), postgres_dsn=database.worker_dsn, nats_url="nats://nowhere")
            place.clock.synchronised = False
            ability = await find_ability(attributes=True)
            scheduler = Scheduler(place.settings, cast("Bus", None), log, Rejections(log))
            made = Days(place, ability, scheduler)
            scheduler.bus = cast("Bus", made)
            yield made
    await log.close()


@pytest.mark.campaign
@pytest.mark.parametrize("jump", JUMPS)
async def test_a_clock_that_jumps_and_comes_back_skips_no_slot_and_does_none_twice(
    database: Database, admin: asyncpg.Connection, jump: str
) -> None:
    async with days(database, admin) as lived:
        place, now = lived.place, TRUE_START
        for _ in range(RIGHT_HOURS):
            await lived.hour(now)
            now += HOUR
        for _ in range(WRONG_HOURS):
            await lived.hour(JUMPS[jump](now))
            now += HOUR
        again = [now + each * HOUR for each in range(AGAIN_HOURS)]
        for each in again:
            await lived.hour(each)
        await place.agree()
        done = Counter(event.slot for event in await place.events(SnapshotCompleted))
        assert max(done.values()) == 1
        slots = [each.replace(minute=0) for each in again]
        assert [slot for slot in slots if slot not in done] == []
        packed = Counter(event.snapshot for event in await place.events(ArchiveCompleted))
        assert max(packed.values()) == 1
        assert snapshot_name(slots[-1]) in packed
        assert await place.events(RemovalOrdered) == []
        # The links show what was made last, not what is dated last; and that is the home as it is.
        assert place.folder.link_target("current") == f"hourly/{snapshot_name(slots[-1])}"
        home = place.store.root.parent / "home"
        assert differences(snapshot_of(home), snapshot_of(place.path / "current/home")) == []


GRAVE: Final = [name for name in JUMPS if "hour" not in name and "day" not in name]
SHORT: Final = {"hourly_retention_hours": 24, "daily_retention_days": 10, "retention_months": 1}


async def stock(place: Bench) -> set[str]:
    """Twenty hours and eight days; by the true time all of it stays."""
    slots = [SLOT - hours * HOUR for hours in range(20)] + [SLOT.replace(hour=0) - days * DAY for days in range(1, 9)]
    await place.stock(slots)
    return {snapshot_name(slot) for slot in slots}


def there(place: Bench) -> set[str]:
    return {found.name for found in place.folder.snapshots()}


@pytest.mark.parametrize("jump", GRAVE)
async def test_nothing_goes_while_the_clock_has_jumped_however_often_it_is_tried(
    database: Database, admin: asyncpg.Connection, jump: str
) -> None:
    async with days(database, admin, **SHORT) as lived:
        place = lived.place
        stocked = await stock(place)
        await place.set_time(TRUE_START)
        await place.run(SLOT)
        for hours in range(1, 4):
            at = JUMPS[jump](TRUE_START + hours * HOUR)
            await place.set_time(at)
            await place.tell(*put_snapshot(place.folder, at.replace(minute=0)))
            await place.run(at.replace(minute=0, microsecond=0))
        assert stocked <= there(place)
        assert await place.events(RemovalOrdered) == []


@pytest.mark.parametrize("jump", [name for name in JUMPS if name not in GRAVE])
async def test_what_goes_by_a_clock_that_is_off_by_less_than_three_days_is_little_and_was_old(
    database: Database, admin: asyncpg.Connection, jump: str
) -> None:
    async with days(database, admin, **SHORT) as lived:
        place = lived.place
        stocked = await stock(place)
        runs = 3
        for hours in range(1, runs + 1):
            at = JUMPS[jump](TRUE_START + hours * HOUR)
            await place.set_time(at)
            await place.tell(*put_snapshot(place.folder, at.replace(minute=1)))
            await place.run(at.replace(minute=0, microsecond=0))
        gone = stocked - there(place)
        # Nobody can tell that it jumped; a tenth of the points, or two, may go at once, and never the newest.
        assert len(gone) <= 2 * runs
        assert {snapshot_name(SLOT - hours * HOUR) for hours in range(3)} <= there(place)


@pytest.mark.parametrize("released_by", ["an operator", "a good backup"])
@pytest.mark.parametrize("jump", ["a year ahead", "2038"])
async def test_a_jump_that_is_over_is_released(
    database: Database, admin: asyncpg.Connection, jump: str, released_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with days(database, admin, **SHORT) as lived:
        place = lived.place
        await stock(place)
        at = JUMPS[jump](TRUE_START)
        await place.set_time(at)
        await place.tell(*put_snapshot(place.folder, at.replace(minute=0)))
        back = TRUE_START + 5 * HOUR  # one of the hours is to go by then
        await place.set_time(back)
        await place.tell(*put_snapshot(place.folder, back.replace(minute=0)))
        await place.run(back.replace(minute=0))
        assert "The clock is in doubt" in " ".join((await place.events(RetentionCompleted))[-1].refused)
        assert await place.events(RemovalOrdered) == []
        if released_by == "an operator":
            monkeypatch.setattr(session, "now", lambda: back)
            await decisions._trust_clock(place.settings, HOST, "I looked at my watch")
        else:
            place.clock.synchronised = True
        await place.run_at(back + HOUR)
        assert len(await place.events(ClockTrusted)) == 1
        assert (await place.events(RetentionCompleted))[-1].refused == ()
        gone = {event.point for event in await place.events(RemovalOrdered)}
        assert gone
        young = {snapshot_name(SLOT - hours * HOUR) for hours in range(17)}
        assert gone.isdisjoint(young)
        # The trash is emptied, too, although the log's time is one to come.
        await place.run_at(back + 2 * DAY)
        assert {event.point for event in await place.events(PointPurged)} >= gone


async def test_a_state_of_a_wrong_clock_does_not_hold_up_who_asks(
    database: Database, admin: asyncpg.Connection
) -> None:
    """A wish after the clock came back is granted, although the log has settled all seconds until 2038."""
    async with days(database, admin) as lived:
        place = lived.place
        await lived.hour(JUMPS["2038"](TRUE_START))
        state = HostState()
        for recorded in await place.log.read_stream(place.stream):
            evolve_host(state, recorded)
        wish = TRUE_START + timedelta(hours=2, seconds=7)
        assert state.settled_slots[Job.SNAPSHOT] != []
        assert not state.is_settled(Job.SNAPSHOT, wish, wish)
        await place.set_time(wish)
        await lived.handle(Tick(Job.SNAPSHOT, MAIN, HOST, wish))
        assert snapshot_name(wish) in there(place)
