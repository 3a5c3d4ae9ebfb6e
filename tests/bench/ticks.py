"""Five hundred hosts that are due in the same second, and twenty workers that share them.

The scheduler, the bus and the worker loops are the product's. Only what a worker does for a host is made up: it
takes some milliseconds, now and then longer than the ack wait, and watches that nobody else is at that host.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from services.scheduler.handler import Scheduler
from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import Accepted, Bus
from shared.adapters.postgres import EventLog
from shared.config import HostSettings, Settings
from shared.config.settings import DEFAULT_STORE, BusTiming
from shared.domain.events import Job
from shared.domain.messages import Tick
from shared.domain.names import HostName
from shared.runtime.rejected import Rejections
from shared.runtime.worker import Disposition, Done, RetryIn, Worker
from tests.bench.options import BenchmarkBroken, Options
from tests.bench.samples import Samples
from tests.bench.servers import Servers, servers, settings_of
from tests.bench.table import Found, Row, below

HOSTS: Final = 500
WORKERS: Final = 20
SCHEDULERS: Final = 2
FIRST_SLOT: Final = datetime(2026, 1, 1, tzinfo=UTC)
PUBLISH_SECONDS: Final = 1.0
TIMING: Final = BusTiming(ack_wait_seconds=6, heartbeat_seconds=0.5)
"""A short ack wait, so that jobs that last longer live by their heartbeats within this benchmark."""

LONG_SHARE: Final = 0.003
LONG_SECONDS: Final = 8.0
RETRY_SHARE: Final = 0.02
SLOT_SECONDS: Final = 0.5
DRAIN_SECONDS: Final = 120.0


@dataclass(slots=True)
class Watch:
    """Who is at which host. A slot that is worked on twice is counted, two at a time are an overlap."""

    busy: set[HostName] = field(default_factory=set)
    settled: Counter[tuple[HostName, datetime]] = field(default_factory=Counter)
    runs: int = 0
    overlaps: int = 0
    cancelled: int = 0
    dice: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311  # nothing here is secret

    async def handle(self, tick: Tick) -> Disposition:
        """What a worker does for a host."""
        self.runs += 1
        self.overlaps += tick.host in self.busy
        self.busy.add(tick.host)
        try:
            await asyncio.sleep(LONG_SECONDS if self.dice.random() < LONG_SHARE else self.dice.uniform(0, 0.02))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.busy.discard(tick.host)
        if self.dice.random() < RETRY_SHARE:
            return RetryIn(0.2)
        self.settled[(tick.host, tick.slot)] += 1
        return Done()


async def measure(options: Options) -> Found:
    """Publish, and work off."""
    count = options.size(HOSTS, quick=50)
    hosts = tuple(HostSettings(name=HostName(f"host-{number:03}")) for number in range(count))
    settings = msgspec.structs.replace(settings_of(options.folder, hosts), timing=TIMING)
    slots = options.size(40, quick=3)
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(servers(options.folder, settings))
        schedulers = [await stack.enter_async_context(_scheduler(settings, place)) for _ in range(SCHEDULERS)]
        watch = Watch()
        options.say("Publishing to a bus on which nothing waits ...")
        published = await _publish(options, schedulers[0], place, watch)
        options.say("Publishing slot after slot while the workers work them off ...")
        passes = await _storm(schedulers, place, watch, slots)
    stored = _counted(schedulers, Accepted.STORED)
    refused = _counted(schedulers, Accepted.ALREADY_RUNNING)
    if watch.settled.total() < stored:
        raise BenchmarkBroken(f"Of {stored} ticks only {watch.settled.total()} were settled.")
    twice = sum(times - 1 for times in watch.settled.values())
    rows = [
        below(f"{count} ticks of one second", published, PUBLISH_SECONDS, unit=" s", digits=3),
        Row("two schedulers publish all, hosts busy", passes.shown(" s", 3)),
        Row(f"two runs of one host at a time, of {watch.runs:,}", f"{watch.overlaps}", "", "", "0", not watch.overlaps),
        Row(f"slots worked off twice, of {stored:,}", f"{twice}", target="0", reached=twice == 0),
        Row("ticks refused because the host was busy", f"{refused:,}"),
        Row("runs given up because nobody confirmed them", f"{watch.cancelled}"),
    ]
    jobs = f"a run takes up to 20 ms, {LONG_SHARE:.1%} of them {LONG_SECONDS:g} s, {RETRY_SHARE:.0%} ask to come again"
    notes = [
        "schedulers, workers and the measuring share one process here; each worker has a connection of its own",
        f"{jobs}; the ack wait is {TIMING.ack_wait_seconds} s, the heartbeat {TIMING.heartbeat_seconds:g} s",
    ]
    return Found(f"ticks: {count} hosts due at once, {WORKERS} workers, {slots} slots", rows, notes)


def _counted(schedulers: list[Scheduler], word: Accepted) -> int:
    return sum(scheduler.counts[word] for scheduler in schedulers)


@asynccontextmanager
async def _scheduler(settings: Settings, place: Servers) -> AsyncIterator[Scheduler]:
    events = EventLog(place.dsn)
    bus = await Bus.connect(place.nats_url, "scheduler")
    try:
        yield Scheduler(settings, bus, events, Rejections(events))
    finally:
        await bus.close()
        await events.close()


async def _publish(options: Options, scheduler: Scheduler, place: Servers, watch: Watch) -> Samples:
    """The seconds of publishing everything to a bus on which nothing waits; the first round warms up."""
    samples = Samples()
    for number in range(options.rounds(7) + 1):
        before = scheduler.counts[Accepted.STORED]
        started = time.perf_counter()
        await scheduler.publish_due(FIRST_SLOT + timedelta(hours=number))
        seconds = time.perf_counter() - started
        if scheduler.counts[Accepted.STORED] - before != len(scheduler.settings.hosts):
            raise BenchmarkBroken(f"Only {scheduler.counts[Accepted.STORED] - before} ticks were stored.")
        if number:
            samples.add(seconds)
        async with _workers(place, watch):
            await _all_settled([scheduler], watch)
    return samples


async def _storm(schedulers: list[Scheduler], place: Servers, watch: Watch, slots: int) -> Samples:
    """All schedulers publish slot after slot, faster than the workers can follow; returns the seconds of each."""
    samples = Samples()
    async with _workers(place, watch):
        for number in range(slots):
            now = FIRST_SLOT + timedelta(days=365, hours=number)
            started = time.perf_counter()
            await asyncio.gather(*(scheduler.publish_due(now) for scheduler in schedulers))
            samples.add(time.perf_counter() - started)
            await asyncio.sleep(max(0.0, SLOT_SECONDS - samples.values[-1]))
        await _all_settled(schedulers, watch)
    return samples


async def _all_settled(schedulers: list[Scheduler], watch: Watch) -> None:
    async with asyncio.timeout(DRAIN_SECONDS):
        while watch.settled.total() < _counted(schedulers, Accepted.STORED) or watch.busy:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@asynccontextmanager
async def _workers(place: Servers, watch: Watch) -> AsyncIterator[None]:
    """Twenty workers, until the block ends."""
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        running = []
        for number in range(WORKERS):
            bus = await Bus.connect(place.nats_url, f"worker-{number}")
            stack.push_async_callback(bus.close)
            worker = Worker(
                bus.ticks(Job.SNAPSHOT, DEFAULT_STORE),
                watch.handle,
                _reject,
                ack_wait_seconds=TIMING.ack_wait_seconds,
                heartbeat_seconds=TIMING.heartbeat_seconds,
                drain_seconds=DRAIN_SECONDS,
                clock=SystemClock(),
            )
            running.append(asyncio.create_task(worker.run(stop)))
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*running)


async def _reject(subject: str, reason: str, _body: bytes) -> None:
    raise BenchmarkBroken(f"A worker refused {subject}: {reason}.")
