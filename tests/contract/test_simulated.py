"""What the simulation takes for the bus and the log behaves as the real ones do, wherever the product relies on it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from shared.adapters.jetstream import Accepted, Bus
from shared.adapters.postgres import EventLog
from shared.domain.audit import ChainCheck
from shared.domain.errors import LogConflict, LogRefused
from shared.domain.events import Job, NewEvent
from shared.domain.messages import Cancel, Tick
from shared.domain.names import HostName
from tests.faults.simulation.bus import BusServer, FakeBus
from tests.faults.simulation.eventlog import FakeLog, LogServer
from tests.support.builders import SLOT, a_tick, alerts, one_of_each
from tests.support.servers import BOUND_SECONDS

pytestmark = pytest.mark.timeout(BOUND_SECONDS)

LATER = SLOT + timedelta(hours=1)
AnyLog = EventLog | FakeLog
AnyBus = Bus | FakeBus


async def at_once() -> None:
    """A way there or back on which nothing happens."""


def microseconds() -> int:
    return round(asyncio.get_running_loop().time() * 1_000_000)


@pytest.fixture(params=["real", "simulated"])
def either_log(request: pytest.FixtureRequest) -> AnyLog:
    if request.param == "real":
        real: EventLog = request.getfixturevalue("log")
        return real
    return FakeLog(LogServer(microseconds), at_once)


@pytest.fixture(params=["real", "simulated"])
def either_bus(request: pytest.FixtureRequest) -> AnyBus:
    if request.param == "real":
        real: Bus = request.getfixturevalue("bus")
        return real
    server = BusServer(lambda: datetime.fromtimestamp(microseconds() / 1e6, UTC), seconds, Random(1), 30.0)  # noqa: S311
    return FakeBus(server, at_once)


def seconds() -> float:
    return asyncio.get_running_loop().time()


async def delivered(inbox: Any) -> Any:
    while (delivery := await inbox.next()) is None:
        pass
    return delivery


def snapshots(bus: AnyBus) -> Any:
    return bus.ticks(Job.SNAPSHOT, "main")


# The log


async def test_positions_have_no_gaps_and_versions_count_each_stream(either_log: AnyLog) -> None:
    first, second = alerts(2), alerts(3)
    assert await either_log.head() == 0
    one = await either_log.append("host-a", 0, first)
    two = await either_log.append("host-b", None, second)
    assert [(one.first_position, one.last_version), (two.first_position, two.last_version)] == [(1, 2), (3, 3)]
    assert not one.duplicate
    assert [event.position for event in await either_log.read_stream("host-b", 1)] == [4, 5]
    assert [event.event for event in await either_log.read_stream("host-a")] == [event.event for event in first]
    assert await either_log.head() == 5


async def test_a_wrong_version_is_a_conflict_that_tells_the_right_one(either_log: AnyLog) -> None:
    await either_log.append("host-a", 0, alerts(2))
    with pytest.raises(LogConflict) as caught:
        await either_log.append("host-a", 1, alerts(1))
    assert caught.value.actual_version == 2
    assert await either_log.head() == 2


async def test_the_same_ids_again_change_nothing_even_with_an_old_version(either_log: AnyLog) -> None:
    events = alerts(3)
    first = await either_log.append("host-a", 0, events)
    again = await either_log.append("host-a", 0, events)
    assert again.duplicate
    assert (again.first_position, again.last_version) == (first.first_position, first.last_version)
    part = await either_log.append("host-a", None, events[:2])
    assert part.duplicate
    assert await either_log.head() == 3


async def test_of_a_longer_batch_after_a_lost_answer_only_the_rest_is_appended(either_log: AnyLog) -> None:
    events = alerts(5)
    await either_log.append("host-a", None, events[:2])
    appended = await either_log.append("host-a", None, events)
    assert not appended.duplicate
    assert [event.event for event in await either_log.read_stream("host-a")] == [event.event for event in events]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_an_id_is_recorded_in_one_stream_only(either_log: AnyLog, order: tuple[int, int]) -> None:
    known, fresh = alerts(2), alerts(1)
    await either_log.append("host-a", None, known)
    batch: list[NewEvent] = [(known[0], fresh[0])[number] for number in order]
    with pytest.raises(LogRefused):
        await either_log.append("host-b", None, batch)
    assert await either_log.head() == 2


async def test_every_type_of_event_comes_back_and_the_chain_holds(either_log: AnyLog) -> None:
    events = alerts(3)
    await either_log.append("host-a", 0, events)
    chain = ChainCheck()
    async for links in either_log.links(0, await either_log.head()):
        chain.check(links)
    assert chain.findings == []
    assert chain.position == 3
    assert await either_log.anchor() == (3, chain.head)
    assert await either_log.anchors() == [(3, chain.head)]
    assert len(one_of_each()) > 30


async def test_who_follows_hears_everything_in_order_and_when_it_has_caught_up(either_log: AnyLog) -> None:
    await either_log.append("host-a", None, alerts(2))
    heard: list[int] = []
    empty = 0
    async for page in either_log.follow(0):
        heard += [event.position for event in page]
        if not page and (empty := empty + 1) == 1:
            await either_log.append("host-b", None, alerts(2))
        if len(heard) == 4:
            break
    assert heard == [1, 2, 3, 4]


# The bus


async def published(bus: AnyBus, *ticks: Tick) -> list[Accepted]:
    return [await bus.publish_tick(tick) for tick in ticks]


async def test_one_tick_for_each_job_and_host_until_it_is_settled(either_bus: AnyBus) -> None:
    inbox = snapshots(either_bus)
    assert await published(either_bus, a_tick(), a_tick(), a_tick(slot=LATER), a_tick("other")) == [
        Accepted.STORED,
        Accepted.DUPLICATE,
        Accepted.ALREADY_RUNNING,
        Accepted.STORED,
    ]
    assert await published(either_bus, a_tick(job=Job.ARCHIVE)) == [Accepted.STORED]
    got = [await delivered(inbox), await delivered(inbox)]
    assert await published(either_bus, a_tick(slot=LATER)) == [Accepted.ALREADY_RUNNING]
    for delivery in got:
        await delivery.heartbeat()
        await delivery.done()
    assert await published(either_bus, a_tick(), a_tick(slot=LATER)) == [Accepted.DUPLICATE, Accepted.STORED]
    await inbox.leave()


async def test_what_is_given_back_comes_again_and_a_late_answer_settles_it(either_bus: AnyBus) -> None:
    inbox = snapshots(either_bus)
    await published(either_bus, a_tick())
    first = await delivered(inbox)
    await first.retry_in(0.2)
    second = await delivered(inbox)
    assert (second.subject, second.body) == (first.subject, first.body)
    await first.heartbeat()
    await first.done()
    assert await published(either_bus, a_tick(slot=LATER)) == [Accepted.STORED]
    await second.done()
    third = await delivered(inbox)
    assert third.body != first.body
    await third.reject("nobody can")
    await inbox.leave()
    assert await published(either_bus, a_tick(slot=LATER + timedelta(hours=1))) == [Accepted.STORED]


async def test_a_tick_can_be_withdrawn_and_the_last_cancel_is_kept(either_bus: AnyBus) -> None:
    host = HostName("h1")
    await published(either_bus, a_tick("h1"))
    await either_bus.withdraw_tick(a_tick("h1"))
    await either_bus.withdraw_tick(a_tick("h1"))
    assert await published(either_bus, a_tick("h1", LATER)) == [Accepted.STORED]
    assert await either_bus.last_cancel(host) is None
    heard = asyncio.Queue[tuple[str, bytes]]()

    async def hear(subject: str, body: bytes) -> None:
        heard.put_nowait((subject, body))

    async with either_bus.cancels(hear):
        for by in ("anna", "berta"):
            await either_bus.publish_cancel(Cancel(host, by))
        subjects = [(await heard.get())[0] for _ in range(2)]
    kept = await either_bus.last_cancel(host)
    assert subjects == ["backup.cancel.h1"] * 2
    assert kept is not None
    assert b"berta" in kept[0]
