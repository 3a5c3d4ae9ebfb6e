"""Messages that are repeated, reordered, forged, oversized: every due job runs once, and nothing goes by a replay."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import nats
import pytest
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import Bus
from shared.domain.events import Job, MessageRejected, PointTrashed, RemovalOrdered, SnapshotCompleted, SnapshotStarted
from shared.domain.messages import Tick, encode_tick, tick_subject
from shared.domain.names import host_stream
from tests.faults.lane import Lane, lane
from tests.faults.racer import ACK_WAIT_SECONDS
from tests.faults.test_two_writers import judge_drive, judge_events
from tests.support.builders import everything
from tests.support.places import new_place
from tests.support.servers import Database, NatsServer

ROUNDS: Final = 12
EACH: Final = 10
"""So many messages come with each due slot."""
JOBS: Final = (Job.SNAPSHOT, Job.RETENTION)
FORGED: Final = (
    b"",
    b"\x00\xff{",
    b'{"slot": "now"}',
    b'{"slot": "2026-03-06T08:00:00Z", "command": "rm -rf /"}',
    b'{"slot": "9999-12-31T23:59:59Z"}',
    b"[" * 100_000,
    b" " * 2_000_000,
)


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


@pytest.fixture
async def host(place: Path, database: Database, nats_server: NatsServer) -> AsyncIterator[Lane]:
    bus = await Bus.connect(nats_server.url, "driver")
    await bus.provision(["lane0"], ACK_WAIT_SECONDS)
    client = await nats.connect(nats_server.url)
    chance = random.Random(5)  # noqa: S311
    async with lane(
        place, 0, bus=bus, client=client, nats_url=nats_server.url, dsn=database.worker_dsn, chance=chance
    ) as made:
        yield made
    await client.close()
    await bus.close()


async def put(host: Lane, job: Job, body: bytes) -> bool:
    """Put a message on the bus without an id; False when the bus refuses it, because another is there."""
    with suppress(JetStreamError, NatsError, TimeoutError):
        await host.client.jetstream().publish(tick_subject(job, host.settings.store, host.host), body)
        return True
    return False


async def disturbing(host: Lane, old: list[datetime], sent: Counter[str]) -> None:
    """Send what nobody ought to send, in any order, while the due slot is worked off."""
    for _ in range(EACH):
        job = host.chance.choice(JOBS)
        what = host.chance.choice(("old", "old", "forged"))
        if what == "old":
            slot = host.chance.choice(old)
            sent[what] += await put(host, job, encode_tick(Tick(job, host.settings.store, host.host, slot)))
        else:
            sent[what] += await put(host, job, host.chance.choice(FORGED))
        await asyncio.sleep(host.chance.uniform(0, 0.15))


async def due(host: Lane, jobs: tuple[Job, ...]) -> datetime:
    """Have a new slot worked off among all that."""
    slot = host.due = host.next_slot()
    for job in jobs:
        body = encode_tick(Tick(job, host.settings.store, host.host, slot))
        async with asyncio.timeout(60):
            while not await put(host, job, body):  # noqa: ASYNC110  # nobody announces it
                await asyncio.sleep(0.01)
    return slot


async def test_whatever_else_comes_each_due_slot_is_done_once_and_each_refusal_is_told_once(host: Lane) -> None:
    sent = Counter[str]()
    slots: list[datetime] = []
    for number in range(ROUNDS):
        host.change_home(number)
        await host.stock_expired(number)
        old = [*slots, SystemClock().now().replace(microsecond=0) - timedelta(days=3)]
        disturbance = asyncio.create_task(disturbing(host, old, sent))
        slots.append(await due(host, JOBS))
        await disturbance
        await host.settled(slots[-1], JOBS)
        host.judge_new(slots[-1])
    events = await everything(host.log)
    judge_events([event for event in events if event.stream == host_stream(host.host)])
    completed = [event.event.slot for event in events if isinstance(event.event, SnapshotCompleted)]
    started = [event.event.slot for event in events if isinstance(event.event, SnapshotStarted)]
    assert [slot for slot in completed if slot in slots] == slots
    assert Counter(slot for slot in started if slot in slots) == Counter(slots)
    assert sum(isinstance(event.event, MessageRejected) for event in events) == sent["forged"], sent
    assert sent["old"] > ROUNDS
    assert sent["forged"] > ROUNDS / 2
    await nothing_goes_by_a_replay(host, slots)
    assert host.observer.conflicts() == []
    judge_drive(host)


async def nothing_goes_by_a_replay(host: Lane, slots: list[datetime]) -> None:
    """Two snapshots may go, and nothing is due: each tick that ever was comes once more, in any order."""
    before = {snapshot.name for snapshot in host.folder.snapshots()}
    await host.stock_expired(ROUNDS)
    more = {snapshot.name for snapshot in host.folder.snapshots()}
    for slot in host.chance.sample(slots, len(slots)):
        for job in JOBS:
            async with asyncio.timeout(60):
                body = encode_tick(Tick(job, host.settings.store, host.host, slot))
                while not await put(host, job, body):  # noqa: ASYNC110  # nobody announces it
                    await asyncio.sleep(0.01)
    await host.settled(slots[-1], JOBS)
    assert {snapshot.name for snapshot in host.folder.snapshots()} == more
    events = await host.log.read_stream(host_stream(host.host))
    for kind in (RemovalOrdered, PointTrashed):
        assert {event.event.point for event in events if isinstance(event.event, kind)} & (more - before) == set()
    assert os.listdir(host.folder.path / ".trash") == []
