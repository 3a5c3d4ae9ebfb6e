"""Whoever is stopped, resumed, or handed the same tick twice: one host has never two writers.

Three hundred races of the real handlers behind the real bus, in processes of their own. A worker is stopped past every
timeout (the ack wait is a second here), alone or with its rsync; its tick is delivered to two; the log is killed, the
bus stands still. An observer with locks of its own sees whether two write; then the drive and the log are judged.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import nats
import pytest

from services.retention.facts import look_at_drive
from shared.adapters.jetstream import Bus
from shared.domain.events import (
    Job,
    PointPurged,
    PointTrashed,
    Recorded,
    RetentionStarted,
    SnapshotCompleted,
    SnapshotFailed,
    SnapshotStarted,
)
from shared.domain.host_state import HostState
from shared.domain.inventory import points_of
from shared.domain.names import host_stream
from shared.domain.projection import evolve_host
from tests.faults.lane import Lane, all_stand_still, deliver_twice, lane, stand_still
from tests.faults.observer import CONFLICT
from tests.faults.racer import ACK_WAIT_SECONDS
from tests.support.places import new_place
from tests.support.servers import Database, NatsServer, SharedPostgres
from tests.support.trees import differences, snapshot_of

RACES: Final = int(os.environ.get("RACES", "300"))
LANES: Final = 5
KINDS: Final = ((Job.SNAPSHOT,), (Job.SNAPSHOT, Job.RETENTION), (Job.RETENTION,))
SECONDS: Final = (0.3, ACK_WAIT_SECONDS + 0.2, ACK_WAIT_SECONDS + 0.6, 2 * ACK_WAIT_SECONDS + 0.3)
LONG_SECONDS: Final = 7.0
"""Past the time limit of every call to the bus as well."""


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


@pytest.fixture
async def lanes(place: Path, database: Database, nats_server: NatsServer) -> AsyncIterator[list[Lane]]:
    seed = int(os.environ.get("RACE_SEED", "7"))
    bus = await Bus.connect(nats_server.url, "driver")
    await bus.provision([f"lane{number}" for number in range(LANES)], ACK_WAIT_SECONDS)
    client = await nats.connect(nats_server.url, max_reconnect_attempts=-1)
    async with AsyncExitStack() as stack:
        given: dict[str, Any] = {"bus": bus, "client": client, "nats_url": nats_server.url, "dsn": database.worker_dsn}
        chances = [random.Random(seed + number) for number in range(LANES)]  # noqa: S311
        yield [
            await stack.enter_async_context(lane(place, number, chance=chance, **given))
            for number, chance in enumerate(chances)
        ]
    await client.close()
    await bus.close()


async def disturb(lane: Lane, job: Job) -> None:
    """Whatever chance wants to happen to the worker that has the tick."""
    match lane.chance.choices(("twice", "still", "all still", "long"), (30, 40, 28, 2))[0]:
        case "twice":
            await deliver_twice(lane, job)
        case "still":
            await stand_still(lane, job, lane.chance.choice(SECONDS))
        case "all still":
            await all_stand_still(lane, job, lane.chance.choice(SECONDS))
        case _:
            await stand_still(lane, job, LONG_SECONDS)


async def run_lane(lane: Lane, races: int) -> None:
    for number in range(races):
        await lane.race(number, KINDS[number % len(KINDS)], disturb)


async def trouble_servers(
    postgres: SharedPostgres, server: NatsServer, seen: Counter[str], over: asyncio.Event
) -> None:
    """Kill the log, and let the bus stand still, again and again, until the races are over."""
    chance = random.Random(3)  # noqa: S311
    while not over.is_set():
        await asyncio.sleep(chance.uniform(3, 7))
        if chance.random() < 0.5:
            await postgres.kill()
            await asyncio.sleep(chance.uniform(0, 1))
            await postgres.start()
            seen["log killed"] += 1
        else:
            os.kill(server.pid, signal.SIGSTOP)
            await asyncio.sleep(chance.uniform(0.4, 1.6))
            os.kill(server.pid, signal.SIGCONT)
            seen["bus stood still"] += 1


@pytest.mark.campaign
@pytest.mark.timeout(900)
async def test_three_hundred_races_have_never_two_writers(
    lanes: list[Lane], shared_server: SharedPostgres, nats_server: NatsServer
) -> None:
    seen, over = Counter[str](), asyncio.Event()
    troubles = asyncio.create_task(trouble_servers(shared_server, nats_server, seen, over))
    try:
        await asyncio.gather(*(run_lane(lane, RACES // LANES) for lane in lanes))
    finally:
        over.set()
        await troubles
    for each in lanes:
        await each.stop()
        seen += await judged(each)
    print(dict(seen))  # noqa: T201  # what the number of races is worth
    assert seen["in two hands"] > RACES / 4, seen
    assert seen["found busy"] > RACES / 20, seen
    assert seen["removed"] > RACES / 2, seen


async def judged(lane: Lane) -> Counter[str]:
    """What drive, log and observer tell of all races; how often something was in two hands."""
    assert lane.observer.conflicts() == []
    events = await lane.log.read_stream(host_stream(lane.host))
    drive = look_at_drive(lane.folder, finish_moves=True)
    judge_events(events)
    state = HostState()
    for recorded in events:
        evolve_host(state, recorded)
    gone = judge_drive(lane)
    waiting = {trashed.key for trashed in drive.trash}
    # The last word of a worker that was ended may wait in the spool: what it says is on the drive.
    assert {point.key for point in points_of(state)} ^ drive.points <= waiting
    hands = [tuple(line.split()) for line in lane.observer.handled()]
    by_slot = Counter(hand[:2] for hand in hands)
    return Counter(
        {
            "in two hands": sum(times > 1 for times in by_slot.values()),
            "found busy": sum(hand[3] == "HostBusy" for hand in hands),
            "given up": sum(hand[3] == "cancelled" for hand in hands),
            "removed": gone,
            "ticks": len(by_slot),
        }
    )


def judge_events(events: list[Recorded]) -> None:
    """Nothing is told twice, and no run begins while another of its job is open."""
    completed = [event.event.slot for event in events if isinstance(event.event, SnapshotCompleted)]
    assert len(set(completed)) == len(completed)
    for kind in (PointTrashed, PointPurged):
        told = [event.event.point for event in events if isinstance(event.event, kind)]
        assert len(set(told)) == len(told), kind
    failed = [event.event for event in events if isinstance(event.event, SnapshotFailed)]
    assert [event for event in failed if event.code == f"rsync_{CONFLICT}"] == []
    state = HostState()
    for recorded in events:
        open_run = None
        if isinstance(recorded.event, SnapshotStarted | RetentionStarted):
            open_run = state.run if isinstance(recorded.event, SnapshotStarted) else state.retention_run
        assert open_run is None or open_run.outcome != "running", shown(events, recorded.position)
        evolve_host(state, recorded)


def judge_drive(lane: Lane) -> int:
    """Every snapshot is what it was; only what expired is gone, and only what was ordered; nothing is left behind."""
    there = {found.name for found in lane.folder.snapshots()}
    expired = {key.removeprefix("snapshot/") for key in lane.expired}
    gone = lane.trees.keys() - there
    assert gone <= expired
    for name in sorted(there):
        assert differences(lane.trees[name], snapshot_of(lane.folder.path / "hourly" / name)) == []
    newest = max(there)
    assert lane.folder.link_target("current") == f"hourly/{newest}"
    partials = [path.name for path in lane.folder.path.iterdir() if path.name.startswith(".partial-")]
    assert partials == [], lane.said()
    return len(gone)


def shown(events: list[Recorded], position: int) -> str:
    """What was recorded just before."""
    until = [f"{each.position} {each.event}" for each in events if each.position <= position]
    return "\n".join(line[:200] for line in until[-12:])
