"""A lane of races: a drive with one host, two snapshotters and two retention workers, and one who disturbs them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError

from services.embedded.process_tree import frozen_below, send
from shared.adapters import process
from shared.adapters.bus_layout import TICKS
from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import Bus, BusUnavailable
from shared.adapters.postgres import EventLog
from shared.adapters.store import HostFolder, Store
from shared.config import BusTiming, HostSettings, Settings
from shared.domain.errors import HostBusy, LogUnavailable
from shared.domain.events import Job, NewEvent, PlanConfirmed
from shared.domain.host_state import EPOCH
from shared.domain.messages import Tick, encode_tick, tick_subject
from shared.domain.names import HostName, StoreName, host_stream, snapshot_name
from tests.faults.observer import Observer
from tests.faults.racer import encode
from tests.support.builders import build, new
from tests.support.stock import put_snapshot
from tests.support.trees import Tree, differences, snapshot_of

REPOSITORY: Final = Path(__file__).parents[2]
LONG: Final = 24 * 365 * 20
"""Hours between two slots that are due by themselves: none begins in a race. A wish for each race is enough."""
PATIENCE_SECONDS: Final = 45.0
OTHER_SLOT: Final = 0.3
"""How often the second tick is for a slot of its own."""
LONG_AGO: Final = timedelta(days=100)

Disturb = Callable[["Lane", Job], Awaitable[None]]


@dataclass
class Lane:
    """One host of one store, and who works on it."""

    name: str
    place: Path
    settings: Settings
    store: Store
    folder: HostFolder
    bus: Bus
    client: Client
    log: EventLog
    observer: Observer
    chance: random.Random
    racers: dict[Job, list[process.Running]] = field(default_factory=dict)
    trees: dict[str, Tree] = field(default_factory=dict)
    expired: list[str] = field(default_factory=list)
    slots: list[datetime] = field(default_factory=list)
    due: datetime = EPOCH

    @property
    def host(self) -> HostName:
        return self.settings.hosts[0].name

    @property
    def home(self) -> Path:
        return self.place / "source" / "home"

    def next_slot(self) -> datetime:
        """A second that no race of this lane had, and that is not to come."""
        now = SystemClock().now().replace(microsecond=0)
        self.slots.append(max(now, self.slots[-1] + timedelta(seconds=1)) if self.slots else now)
        return self.slots[-1]

    def change_home(self, number: int) -> None:
        """Something new, something rewritten, something removed."""
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / f"new-{number % 5}").write_text(f"as of race {number}")
        (self.home / "rewritten").write_bytes(os.urandom(200_000))
        with suppress(FileNotFoundError):
            (self.home / f"new-{(number + 2) % 5}").unlink()

    async def stock_expired(self, number: int) -> None:
        """Two snapshots that the policy lets go, and a person who agrees."""
        facts: list[NewEvent] = []
        begin = SystemClock().now().replace(minute=0, second=0, microsecond=0) - LONG_AGO
        with await self._alone():
            for each in range(2):
                slot = begin + timedelta(minutes=2 * number + each)
                facts += put_snapshot(self.folder, slot)[1:]  # a run of its own would seem to begin beside others
                self.trees[snapshot_name(slot)] = snapshot_of(self.folder.path / "hourly" / snapshot_name(slot))
                self.expired.append(f"snapshot/{snapshot_name(slot)}")
            stream = host_stream(self.host)
            facts.append(new(build(PlanConfirmed, points=tuple(self.expired))))
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not await self._told(stream, facts):  # noqa: ASYNC110  # nobody announces it
                    await asyncio.sleep(0.1)

    async def _told(self, stream: str, facts: list[NewEvent]) -> bool:
        with suppress(LogUnavailable):
            await self.log.append(stream, None, facts)
            return True
        return False

    async def _alone(self) -> ExitStack:
        """The locks of both jobs, as soon as nobody has them."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                stack = ExitStack()
                try:
                    for job in (Job.SNAPSHOT, Job.RETENTION):
                        stack.enter_context(self.folder.locked(job))
                except HostBusy:
                    stack.close()
                    await asyncio.sleep(0.02)
                else:
                    return stack

    async def race(self, number: int, jobs: tuple[Job, ...], disturb: Disturb) -> None:
        """Let the workers of these jobs race for one slot, and disturb them until it is settled."""
        if Job.SNAPSHOT in jobs:
            self.change_home(number)
        if Job.RETENTION in jobs:
            await self.stock_expired(number)
        slot = self.due = self.next_slot()
        for job in jobs:
            await self.published(Tick(job, self.settings.store, self.host, slot))
        await disturb(self, self.chance.choice(jobs))
        await self.settled(slot, jobs)
        if Job.SNAPSHOT in jobs:
            self.judge_new(self.due)

    async def published(self, tick: Tick) -> None:
        """Put a tick on the bus, which may stand still."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                with suppress(BusUnavailable):
                    await self.bus.publish_tick(tick)
                    return
                await asyncio.sleep(0.1)

    def judge_new(self, slot: datetime) -> None:
        """The slot has its snapshot, and it is what the home is; nobody writes to that before the next race."""
        wanted = snapshot_of(self.home)
        names = [found.name for found in self.folder.snapshots()]
        assert names.count(snapshot_name(slot)) == 1, (snapshot_name(slot), names[-3:], self.said())
        for name in set(names) - self.trees.keys():
            found = self.folder.path / "hourly" / name
            assert differences(wanted, snapshot_of(found / "home")) == [], name
            self.trees[name] = snapshot_of(found)

    async def is_pending(self, job: Job) -> bool:
        """Whether somebody has still to say that a tick is done."""
        try:
            await self.client.jetstream().get_last_msg(TICKS, tick_subject(job, self.settings.store, self.host))
        except NotFoundError:
            return False
        except (NatsError, JetStreamError, OSError, TimeoutError):
            return True
        return True

    async def settled(self, slot: datetime, jobs: tuple[Job, ...]) -> None:
        """Wait until no tick is pending: every worker has said that it is done."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                for job in jobs:
                    while await self.is_pending(job):  # noqa: ASYNC110  # nobody announces it
                        await asyncio.sleep(0.03)
        except TimeoutError as error:
            raise AssertionError(f"{jobs} of {slot:%H:%M:%S} are not settled.\n{self.said()}") from error

    def said(self) -> str:
        """What the workers said last, and what was seen of them."""
        words = [bytes(racer.stderr).decode()[-2000:] for racers in self.racers.values() for racer in racers]
        return "\n".join([*words, *self.observer.handled()[-12:], *self.observer.conflicts()])

    async def victim(self, job: Job) -> int:
        """The process that has a tick of this job, or any that could."""
        with suppress(TimeoutError):
            async with asyncio.timeout(2):
                while not (busy := self.observer.busy(job)):  # noqa: ASYNC110  # it tells nobody
                    await asyncio.sleep(0.005)
                await asyncio.sleep(self.chance.uniform(0, 0.5))
                return self.chance.choice(self.observer.busy(job) or busy)
        return self.chance.choice(self.racers[job]).pid

    async def start(self) -> None:
        """Start the workers."""
        told = encode(self.settings, self.observer.folder)
        for job in (Job.SNAPSHOT, Job.RETENTION):
            argv = process.dying_with_parent([sys.executable, "-m", "tests.faults.racer", job, told])
            self.racers[job] = [await process.start(argv, cwd=REPOSITORY) for _ in range(2)]

    async def stop(self) -> None:
        """End them, stopped ones too."""
        for racers in self.racers.values():
            for racer in racers:
                racer.send_signal(signal.SIGCONT)
                await racer.end(grace_seconds=10)


async def stand_still(lane: Lane, job: Job, seconds: float) -> None:
    """Stop a worker in the middle of what it does; its rsync goes on."""
    pid = await lane.victim(job)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        os.kill(pid, signal.SIGCONT)


async def all_stand_still(lane: Lane, job: Job, seconds: float) -> None:
    """Stop a worker and everything it started."""
    pid = await lane.victim(job)
    async with AsyncExitStack() as stack:
        handles = stack.enter_context(ExitStack())
        below = await frozen_below(pid, handles)
        await asyncio.sleep(seconds)
        for handle in below:
            send(handle, signal.SIGCONT)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


async def deliver_twice(lane: Lane, job: Job) -> None:
    """Take the tick from under the worker that has it, and publish it anew: now two have it."""
    await lane.victim(job)
    tick = Tick(job, lane.settings.store, lane.host, lane.slots[-1])
    with suppress(BusUnavailable):
        await lane.bus.withdraw_tick(tick)
    slot = lane.next_slot() if job is Job.SNAPSHOT and lane.chance.random() < OTHER_SLOT else tick.slot
    again = Tick(job, tick.store, tick.host, slot)
    with suppress(NatsError, JetStreamError, OSError, TimeoutError):  # it is still there, and this one refused
        # Without its id, which the bus would know.
        await lane.client.jetstream().publish(tick_subject(job, tick.store, tick.host), encode_tick(again))
        lane.due = slot if job is Job.SNAPSHOT else lane.due


@asynccontextmanager
async def lane(
    place: Path, number: int, *, bus: Bus, client: Client, nats_url: str, dsn: str, chance: random.Random
) -> AsyncIterator[Lane]:
    """A lane with its workers running."""
    name = f"lane{number}"
    folder = place / name
    (folder / "source" / "home").mkdir(parents=True)
    (folder / "drive").mkdir()
    host = HostSettings(
        name=HostName(name),
        store=StoreName(name),
        transport="local",
        paths=(f"{folder}/source/./home",),
        excludes=(),
        snapshot_interval_hours=LONG,
    )
    settings = Settings(
        backup_root=folder / "drive",
        data_dir=folder / "data",
        store=StoreName(name),
        hosts=(host,),
        tar_interval_hours=LONG,
        hourly_retention_hours=2,
        daily_retention_days=1,
        retention_months=1,
        trash_hours=0,
        nats_url=nats_url,
        postgres_dsn=dsn,
        timing=BusTiming(retry_seconds=1, max_attempts=100),
    )
    store, log = Store.create(settings.backup_root, settings.store, uuid.uuid4()), EventLog(dsn)
    try:
        with store.folder(host.name) as host_folder:
            observer = Observer(folder / "observed")
            made = Lane(name, folder, settings, store, host_folder, bus, client, log, observer, chance)
            await made.start()
            try:
                yield made
            finally:
                await made.stop()
    finally:
        await log.close()
        store.close()
