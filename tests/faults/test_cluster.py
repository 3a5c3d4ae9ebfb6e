"""A cluster of three: its leader dies while 2,000 ticks are published and three machines work them off.

The machines are the real worker loop with the claim that all workers make: a slot begins with an event at the
version that was read, so that of two that were handed the same tick one stops.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import pytest

from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import Accepted, Bus, BusUnavailable
from shared.adapters.postgres import EventLog
from shared.domain.errors import LogConflict
from shared.domain.events import Job, NewEvent, SnapshotCompleted, SnapshotStarted
from shared.domain.host_state import HostState
from shared.domain.ids import event_id
from shared.domain.messages import Tick
from shared.domain.names import HostName, host_stream, snapshot_name
from shared.domain.projection import evolve_host
from shared.runtime.worker import Disposition, Done, RetryIn, Worker
from tests.faults.cluster import NAMES, Cluster, cluster
from tests.faults.conftest import Tell
from tests.support.builders import MAIN, SLOT, a_run, build, everything
from tests.support.places import new_place
from tests.support.servers import Database

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(600)]

HOSTS: Final = [HostName(f"host{number}") for number in range(50)]
SLOTS: Final = [SLOT + timedelta(hours=hours) for hours in range(40)]
ACK_WAIT_SECONDS: Final = 5
WITHIN_SECONDS: Final = 480.0


@dataclass
class Machine:
    """Works ticks off: claims the slot in the log, and says that it is done."""

    log: EventLog
    ran: Counter[tuple[str, datetime]]
    progress: asyncio.Condition

    async def handle(self, tick: Tick) -> Disposition:
        stream, state = host_stream(tick.host), HostState()
        for recorded in await self.log.read_stream(stream):
            evolve_host(state, recorded)
        if state.is_settled(Job.SNAPSHOT, tick.slot, tick.slot):
            return Done()
        run, name = a_run(), snapshot_name(tick.slot)
        started = build(SnapshotStarted, run=run, slot=tick.slot)
        completed = build(SnapshotCompleted, run=run, slot=tick.slot, snapshot=name)
        try:
            await self.log.append(stream, state.version, [NewEvent(event_id(run, 1), started)])
        except LogConflict:
            return RetryIn(0)
        self.ran[tick.host, tick.slot] += 1
        await self.log.append(stream, None, [NewEvent(event_id(run, 2), completed)])
        async with self.progress:
            self.progress.notify_all()
        return Done()


@dataclass
class Story:
    """Schedulers that publish, machines that work, and what came of it."""

    ran: Counter[tuple[str, datetime]] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    progress: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def publish(self, bus: Bus, hosts: list[HostName]) -> None:
        """Publish every slot of these hosts, as a scheduler does: again, until the bus has it, one after the other."""
        for slot in SLOTS:
            for host in hosts:
                tick = Tick(Job.SNAPSHOT, MAIN, host, slot)
                while not await self._taken(bus, tick):  # noqa: ASYNC110  # whether it is full, the bus alone knows
                    await asyncio.sleep(0.05)

    async def _taken(self, bus: Bus, tick: Tick) -> bool:
        if self.ran[tick.host, tick.slot]:
            return True
        try:
            accepted = await bus.publish_tick(tick)
        except BusUnavailable:
            self.answers["away"] += 1
            return False
        self.answers[accepted] += 1
        return accepted is not Accepted.ALREADY_RUNNING

    async def reached(self, count: int) -> None:
        """Wait until so many slots have run."""
        async with self.progress:
            await self.progress.wait_for(lambda: len(self.ran) >= count)


async def strike(story: Story, servers: Cluster) -> list[str]:
    """Kill who leads the ticks when a quarter is done, bring it back at half of it; and once more."""
    struck = []
    for count in (500, 1_250):
        await story.reached(count)
        leader = await servers.leader_of("TICKS")
        await servers.kill(leader)
        struck.append(leader)
        await story.reached(count + 500)
        await servers.start(leader)
    return struck


async def reject(subject: str, reason: str, _: bytes) -> None:
    raise AssertionError(f"{subject} was refused: {reason}")


async def test_a_leader_that_dies_loses_no_tick_and_has_none_run_twice(database: Database, tell: Tell) -> None:
    story, stop = Story(), asyncio.Event()
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(cluster(stack.enter_context(new_place())))
        buses = [await Bus.connect(servers.url, f"machine-{number}") for number in range(3)]
        await buses[0].provision([MAIN], ACK_WAIT_SECONDS, len(NAMES))
        log = EventLog(database.worker_dsn)
        machine = Machine(log, story.ran, story.progress)
        async with asyncio.timeout(WITHIN_SECONDS), asyncio.TaskGroup() as tasks:
            for bus in buses:
                timing = {"ack_wait_seconds": ACK_WAIT_SECONDS, "heartbeat_seconds": 1.0, "drain_seconds": 1.0}
                worker = Worker(bus.ticks(Job.SNAPSHOT, MAIN), machine.handle, reject, clock=SystemClock(), **timing)
                tasks.create_task(worker.run(stop))
            striking = tasks.create_task(strike(story, servers))
            # Two of them publish the same for some hosts, as two replicas of the scheduler do.
            schedulers = [
                tasks.create_task(story.publish(bus, HOSTS[n * 15 : n * 15 + 20])) for n, bus in enumerate(buses)
            ]
            await asyncio.gather(*schedulers)
            await story.reached(len(HOSTS) * len(SLOTS))
            struck = await striking
            stop.set()
        events = await everything(log)
        await log.close()
        for bus in buses:
            await bus.close()
    done = Counter((each.stream, each.event.slot) for each in events if isinstance(each.event, SnapshotCompleted))
    assert set(done) == {(host_stream(host), slot) for host in HOSTS for slot in SLOTS}
    assert set(done.values()) == set(story.ran.values()) == {1}
    tell(f"2,000 ticks, leaders {' and '.join(struck)} killed; the bus said {dict(story.answers)}")
