"""The bus on a real nats-server: one tick for each job and host, whatever dies, and nothing undecodable in the way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from shared.adapters import jetstream
from shared.adapters.bus_layout import CONTROL, DEAD, SCHEDULER, TICKS, TRIGGERS
from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import Accepted, Bus, BusUnavailable, Delivery, Inbox
from shared.adapters.postgres import EventLog
from shared.domain.events import Job, MessageRejected
from shared.domain.messages import Tick, Trigger, encode_tick
from shared.domain.names import REFUSED_STREAM
from shared.runtime.rejected import Rejections
from shared.runtime.worker import Disposition, Done, Reject, RetryIn, Worker
from tests.support.builders import SLOT, a_tick, first_that
from tests.support.servers import BOUND_SECONDS, NatsServer

pytestmark = pytest.mark.timeout(BOUND_SECONDS)

LATER = SLOT + timedelta(hours=1)
GOOD_BODY = encode_tick(a_tick())
OVERSIZED = b"x" * (2 * 1024 * 1024)


@pytest.fixture
async def raw(nats_server: NatsServer) -> AsyncIterator[Client]:
    """A client that is not ours: what `nats pub` would send."""
    client = await nats.connect(nats_server.url)
    yield client
    await client.close()


@pytest.fixture
def js(raw: Client) -> JetStreamContext:
    return raw.jetstream()


@asynccontextmanager
async def connected(server: NatsServer) -> AsyncIterator[Bus]:
    """Another process's connection."""
    bus = await Bus.connect(server.url, "other")
    try:
        yield bus
    finally:
        await bus.close()


@pytest.fixture
async def other(bus: Bus, nats_server: NatsServer) -> AsyncIterator[Bus]:
    async with connected(nats_server) as client:
        yield client


async def delivered(inbox: Inbox) -> Delivery:
    """The next message; the time is bounded by pytest."""
    while (delivery := await inbox.next()) is None:
        pass
    return delivery


async def assert_empty(inbox: Inbox) -> None:
    """There is no message for this inbox for as long as a fetch lasts."""
    assert await inbox.next() is None
    await inbox.leave()


async def stored(js: JetStreamContext, subject: str) -> bool:
    try:
        await js.get_last_msg(TICKS, subject)
    except NotFoundError:
        return False
    return True


async def free_again(js: JetStreamContext, subject: str) -> None:
    """Wait until nothing is stored under a subject."""
    while await stored(js, subject):  # noqa: ASYNC110  # the server tells nobody
        await asyncio.sleep(0.002)


async def no_rejection(subject: str, reason: str, body: bytes) -> None:
    raise AssertionError(f"{subject} was rejected: {reason}, {body[:20]!r}")


@dataclass
class Handler:
    """What a worker does with its ticks: notes them, and waits where it is told to."""

    outcome: Callable[[int], Disposition] = lambda _: Done()
    hold: asyncio.Event | None = None
    ticks: asyncio.Queue[Tick] = field(default_factory=asyncio.Queue)
    taken: list[Tick] = field(default_factory=list)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, tick: Tick) -> Disposition:
        self.taken.append(tick)
        self.ticks.put_nowait(tick)
        try:
            if self.hold is not None:
                await self.hold.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return self.outcome(len(self.taken))


@asynccontextmanager
async def working(
    bus: Bus,
    handler: Callable[[Tick], Awaitable[Disposition]],
    *,
    reject: Reject = no_rejection,
    ack_wait: float = 30.0,
    heartbeat: float = 5.0,
    drain: float = 0.2,
) -> AsyncIterator[asyncio.Task[None]]:
    """A worker, from here to the end of the block."""
    worker = Worker(
        bus.ticks(Job.SNAPSHOT, "main"),
        handler,
        reject,
        ack_wait_seconds=ack_wait,
        heartbeat_seconds=heartbeat,
        drain_seconds=drain,
        clock=SystemClock(),
    )
    stop = asyncio.Event()
    task = asyncio.create_task(worker.run(stop))
    try:
        yield task
    finally:
        stop.set()
        await asyncio.gather(task, return_exceptions=True)


# What is declared


TICKS_DECLARED: dict[str, Any] = {
    "subjects": ["tick.*.*.*"],
    "retention": RetentionPolicy.WORK_QUEUE,
    "storage": StorageType.FILE,
    "max_msgs_per_subject": 1,
    "discard": DiscardPolicy.NEW,
    "discard_new_per_subject": True,
    "duplicate_window": 3600,
}
DECLARED: dict[str, dict[str, Any]] = {
    TICKS: TICKS_DECLARED,
    TRIGGERS: {
        "subjects": ["backup.trigger", "backup.trigger.*"],
        "retention": RetentionPolicy.WORK_QUEUE,
        "storage": StorageType.FILE,
        "max_age": 86_400,
    },
    CONTROL: {
        "subjects": ["backup.cancel.*"],
        "retention": RetentionPolicy.LIMITS,
        "storage": StorageType.FILE,
        "max_msgs_per_subject": 1,
        "max_age": 3600,
        "allow_direct": True,
    },
    DEAD: {"retention": RetentionPolicy.LIMITS, "storage": StorageType.FILE, "max_age": 30 * 86_400},
}


async def assert_as_declared(js: JetStreamContext, *, ack_wait: int = 30) -> None:
    for name, wanted in DECLARED.items():
        config = (await js.stream_info(name)).config
        assert {key: getattr(config, key) for key in wanted} == wanted, name
    wanted = {"ack_policy": AckPolicy.EXPLICIT, "max_deliver": -1, "ack_wait": ack_wait}
    ticks = (await js.consumer_info(TICKS, "snapshot-main")).config
    assert ticks.filter_subject == "tick.snapshot.main.*"
    assert {key: getattr(ticks, key) for key in wanted} == wanted
    triggers = (await js.consumer_info(TRIGGERS, SCHEDULER)).config
    assert {key: getattr(triggers, key) for key in wanted} == {**wanted, "ack_wait": 30}


async def test_after_provisioning_streams_and_consumers_are_as_declared(bus: Bus, js: JetStreamContext) -> None:
    assert bus.closed.is_set() is False
    await assert_as_declared(js)
    assert {stream.config.name for stream in await js.streams_info()} == set(DECLARED)


async def test_what_was_altered_or_deleted_is_put_right_and_ticks_survive_it(bus: Bus, js: JetStreamContext) -> None:
    await bus.publish_tick(a_tick())
    loose = {
        **TICKS_DECLARED,
        "max_msgs_per_subject": 9,
        "discard": DiscardPolicy.OLD,
        "discard_new_per_subject": False,
    }
    await js.update_stream(StreamConfig(name=TICKS, **loose))
    await js.update_stream(
        StreamConfig(name=TRIGGERS, subjects=["backup.trigger"], retention=RetentionPolicy.WORK_QUEUE)
    )
    await js.delete_stream(CONTROL)
    await js.delete_consumer(TRIGGERS, SCHEDULER)
    consumer = (await js.consumer_info(TICKS, "snapshot-main")).config
    await js.add_consumer(TICKS, consumer.evolve(ack_wait=7, max_deliver=2))
    await bus.provision(["main"], 30)
    await assert_as_declared(js)
    assert await bus.publish_tick(a_tick(slot=LATER)) is Accepted.ALREADY_RUNNING


async def test_a_changed_declaration_is_taken_over(bus: Bus, js: JetStreamContext) -> None:
    await bus.provision(["main", "attic", "main"], 45)
    await assert_as_declared(js, ack_wait=45)
    assert (await js.consumer_info(TICKS, "snapshot-attic")).config.filter_subject == "tick.snapshot.attic.*"


async def test_any_number_may_provision_at_once(nats_server: NatsServer, js: JetStreamContext) -> None:
    async with AsyncExitStack() as stack:
        buses = [await stack.enter_async_context(connected(nats_server)) for _ in range(4)]
        await asyncio.gather(*(bus.provision(["main"], 30) for bus in buses))
    await assert_as_declared(js)


async def test_a_stream_of_somebody_else_that_cannot_be_put_right_is_said(
    nats_server: NatsServer, js: JetStreamContext
) -> None:
    await js.add_stream(StreamConfig(name="FOREIGN", subjects=["tick.>"]))
    async with connected(nats_server) as bus:
        with pytest.raises(BusUnavailable, match="could not be set up"):
            await bus.provision(["main"], 30)


# One tick for each job and host


async def test_a_second_tick_is_refused_while_the_first_is_pending_and_while_it_is_worked_on(bus: Bus) -> None:
    inbox = bus.ticks(Job.SNAPSHOT, "main")
    assert await bus.publish_tick(a_tick()) is Accepted.STORED
    assert await bus.publish_tick(a_tick(slot=LATER)) is Accepted.ALREADY_RUNNING
    delivery = await delivered(inbox)
    assert await bus.publish_tick(a_tick(slot=LATER)) is Accepted.ALREADY_RUNNING
    await delivery.heartbeat()
    assert await bus.publish_tick(a_tick(slot=LATER)) is Accepted.ALREADY_RUNNING
    await delivery.done()
    assert await bus.publish_tick(a_tick(slot=LATER)) is Accepted.STORED


async def test_a_tick_that_is_to_come_again_still_keeps_others_out(bus: Bus) -> None:
    inbox = bus.ticks(Job.SNAPSHOT, "main")
    await bus.publish_tick(a_tick())
    await (await delivered(inbox)).retry_in(20)
    assert await bus.publish_tick(a_tick(slot=LATER)) is Accepted.ALREADY_RUNNING


async def test_the_same_slot_twice_is_a_duplicate_even_when_it_is_done(bus: Bus, other: Bus) -> None:
    assert await bus.publish_tick(a_tick()) is Accepted.STORED
    assert await other.publish_tick(a_tick()) is Accepted.DUPLICATE
    await (await delivered(bus.ticks(Job.SNAPSHOT, "main"))).done()
    assert await other.publish_tick(a_tick()) is Accepted.DUPLICATE


async def test_a_dry_run_of_a_slot_is_another_tick(bus: Bus) -> None:
    await bus.publish_tick(a_tick())
    await (await delivered(bus.ticks(Job.SNAPSHOT, "main"))).done()
    assert await bus.publish_tick(a_tick(dry_run=True)) is Accepted.STORED


async def test_of_many_schedulers_at_once_each_slot_is_stored_once(bus: Bus, other: Bus) -> None:
    hosts = [f"host-{number}" for number in range(25)]
    accepted = await asyncio.gather(*(client.publish_tick(a_tick(host)) for host in hosts for client in (bus, other)))
    assert accepted.count(Accepted.STORED) == accepted.count(Accepted.DUPLICATE) == 25


async def test_other_hosts_and_stores_are_not_held_up(bus: Bus) -> None:
    await bus.provision(["main", "attic"], 30)
    inbox = bus.ticks(Job.SNAPSHOT, "main")
    await bus.publish_tick(a_tick("busy"))
    await delivered(inbox)
    assert await bus.publish_tick(a_tick("free")) is Accepted.STORED
    assert (await delivered(inbox)).subject == "tick.snapshot.main.free"
    assert await bus.publish_tick(a_tick("busy", LATER, store="attic")) is Accepted.STORED
    assert (await delivered(bus.ticks(Job.SNAPSHOT, "attic"))).subject == "tick.snapshot.attic.busy"


async def test_a_tick_published_by_hand_into_a_busy_subject_changes_nothing(bus: Bus, raw: Client) -> None:
    await bus.publish_tick(a_tick())
    await raw.publish("tick.snapshot.main.nas", b"mine")
    await raw.flush()
    assert (await delivered(bus.ticks(Job.SNAPSHOT, "main"))).body == GOOD_BODY


# Dying and coming back


async def test_the_tick_of_a_dead_worker_comes_to_another_after_the_ack_wait(bus: Bus, nats_server: NatsServer) -> None:
    await bus.provision(["main"], 1)
    await bus.publish_tick(a_tick())
    async with connected(nats_server) as dying:
        await delivered(dying.ticks(Job.SNAPSHOT, "main"))
        taken = time.monotonic()
    delivery = await delivered(bus.ticks(Job.SNAPSHOT, "main"))
    assert time.monotonic() - taken > 0.8
    assert delivery.body == GOOD_BODY


async def test_retry_in_delivers_again_after_the_delay_and_not_before(bus: Bus, other: Bus) -> None:
    await bus.publish_tick(a_tick())
    await (await delivered(bus.ticks(Job.SNAPSHOT, "main"))).retry_in(1.5)
    given_back = time.monotonic()
    assert (await delivered(other.ticks(Job.SNAPSHOT, "main"))).body == GOOD_BODY
    assert time.monotonic() - given_back > 1.4


async def test_an_inbox_survives_a_killed_server(
    bus: Bus, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetstream, "FETCH_TIMEOUT_SECONDS", 2.0)
    inbox = bus.ticks(Job.SNAPSHOT, "main")
    waiting = asyncio.create_task(inbox.next())
    await bus.publish_tick(a_tick("other", store="attic"))  # the fetch has left before this is confirmed
    await nats_server.kill()
    await nats_server.start()
    while True:
        try:
            await bus.publish_tick(a_tick())
        except BusUnavailable:
            continue
        break
    delivery = await waiting or await delivered(inbox)
    assert delivery.body == GOOD_BODY
    await delivery.done()
    assert await bus.publish_tick(a_tick(slot=LATER)) is Accepted.STORED
    assert not bus.closed.is_set()


async def test_what_was_pending_survives_a_killed_server(bus: Bus, nats_server: NatsServer) -> None:
    for number in range(10):
        await bus.publish_tick(a_tick(f"host-{number}"))
    await nats_server.kill()
    await nats_server.start()
    inbox = bus.ticks(Job.SNAPSHOT, "main")
    subjects = {(await delivered(inbox)).subject for _ in range(10)}
    assert subjects == {f"tick.snapshot.main.host-{number}" for number in range(10)}


async def test_while_the_server_is_down_nothing_seems_to_succeed(
    bus: Bus, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bus.publish_tick(a_tick())
    delivery = await delivered(bus.ticks(Job.SNAPSHOT, "main"))
    monkeypatch.setattr(jetstream.Delivery._confirmed, "__defaults__", (0.3,))
    await nats_server.kill()
    for call in (delivery.done(), delivery.heartbeat(0.3), delivery.retry_in(1), delivery.reject("no")):
        with pytest.raises(BusUnavailable):
            await call


async def test_a_bus_that_is_not_there_is_said_with_a_hint(nats_server: NatsServer) -> None:
    await nats_server.stop()
    with pytest.raises(BusUnavailable) as caught:
        await Bus.connect(nats_server.url, "test", timeout_seconds=1)
    assert "NATS_URL" in caught.value.hint


async def test_a_cancelled_fetch_keeps_no_message_from_others(bus: Bus, other: Bus) -> None:
    mine, theirs = bus.ticks(Job.SNAPSHOT, "main"), other.ticks(Job.SNAPSHOT, "main")
    fetching = asyncio.create_task(mine.next())
    await bus.publish_tick(a_tick("other", store="attic"))  # the fetch has left before this is confirmed
    fetching.cancel()
    await asyncio.gather(fetching, return_exceptions=True)
    await bus.publish_tick(a_tick())
    async with asyncio.timeout(10):  # far below the ack wait of 30 s
        assert (await delivered(theirs)).body == GOOD_BODY


async def test_a_second_store_of_ticks_is_not_mixed_with_the_first(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jetstream, "FETCH_TIMEOUT_SECONDS", 0.3)
    await bus.publish_tick(a_tick(store="attic"))
    await assert_empty(bus.ticks(Job.SNAPSHOT, "main"))


# The worker


async def test_a_worker_works_ticks_off_and_frees_their_subjects(bus: Bus, js: JetStreamContext) -> None:
    handler = Handler()
    async with working(bus, handler):
        for slot in (SLOT, LATER):
            await bus.publish_tick(a_tick(slot=slot))
            assert (await handler.ticks.get()).slot == slot
            await free_again(js, "tick.snapshot.main.nas")
    assert len(handler.taken) == 2


async def test_a_tick_that_is_to_be_tried_again_comes_again(bus: Bus, js: JetStreamContext) -> None:
    handler = Handler(outcome=lambda count: RetryIn(0.2) if count < 3 else Done())
    async with working(bus, handler):
        await bus.publish_tick(a_tick())
        await free_again(js, "tick.snapshot.main.nas")
    assert handler.taken == [a_tick()] * 3


async def test_a_handler_that_breaks_does_not_end_the_worker(bus: Bus, js: JetStreamContext) -> None:
    seen: list[Tick] = []

    async def breaking(tick: Tick) -> Disposition:
        seen.append(tick)
        if tick.host == "broken":
            raise ZeroDivisionError
        return Done()

    async with working(bus, breaking):
        await bus.publish_tick(a_tick("broken"))
        await bus.publish_tick(a_tick("sound"))
        await free_again(js, "tick.snapshot.main.sound")
        assert await stored(js, "tick.snapshot.main.broken")
    assert [tick.host for tick in seen] == ["broken", "sound"]


UNDECODABLE = {
    "binary": ("tick.snapshot.main.nas", b"\x00\xff\xfe{" * 20),
    "empty": ("tick.snapshot.main.nas", b""),
    "not JSON": ("tick.snapshot.main.nas", b"now please"),
    "JSON of another shape": ("tick.snapshot.main.nas", b"[1, 2, 3]"),
    "an unknown field": ("tick.snapshot.main.nas", b'{"slot":"2026-03-06T08:00:00Z","command":"rm -rf /"}'),
    "a slot without a zone": ("tick.snapshot.main.nas", b'{"slot":"2026-03-06T08:00:00"}'),
    "a slot that is no time": ("tick.snapshot.main.nas", b'{"slot":"2026-02-30T08:00:00Z"}'),
    "2 MB": ("tick.snapshot.main.nas", OVERSIZED),
    "2 MB of nesting": ("tick.snapshot.main.nas", b"[" * len(OVERSIZED)),
    "a literal * for the host": ("tick.snapshot.main.*", GOOD_BODY),
    "a literal > for the host": ("tick.snapshot.main.>", GOOD_BODY),
    "a host with wildcards in it": ("tick.snapshot.main.a*b", GOOD_BODY),
    "an option for the host": ("tick.snapshot.main.-oProxyCommand=x", GOOD_BODY),
    "a path for the host": ("tick.snapshot.main./etc", GOOD_BODY),
    "a reserved word for the host": ("tick.snapshot.main.latest", GOOD_BODY),
    "upper case": ("tick.snapshot.main.NAS", GOOD_BODY),
    "a control character": ("tick.snapshot.main.a\x1b[2Jb", GOOD_BODY),
    "a host of 300 characters": (f"tick.snapshot.main.{'a' * 300}", GOOD_BODY),
}


async def test_what_cannot_be_understood_is_recorded_and_removed_and_the_worker_lives_on(
    bus: Bus, log: EventLog, raw: Client, js: JetStreamContext
) -> None:
    handler, after = Handler(), 0
    async with working(bus, handler, reject=Rejections(log).record):
        for what, (subject, body) in UNDECODABLE.items():
            await raw.publish(subject, body)
            await raw.flush()
            recorded = await first_that(log, lambda _: True, after=after)
            after = recorded.position
            assert recorded.stream == REFUSED_STREAM
            assert isinstance(recorded.event, MessageRejected), what
            assert recorded.event.size_bytes == len(body), what
            assert recorded.event.reason, what
            assert recorded.event.subject.isprintable(), what
            assert len(recorded.event.preview) < 1_000, what
            assert body[:4].isalnum() is False or recorded.event.preview.startswith(body[:4].decode()), what
            await free_again(js, subject)
        await bus.publish_tick(a_tick())
        assert await handler.ticks.get() == a_tick()
    assert handler.taken == [a_tick()]


async def test_without_the_log_what_cannot_be_understood_is_removed_all_the_same(
    bus: Bus, js: JetStreamContext
) -> None:
    away = EventLog("postgresql:///nowhere?host=/nonexistent")
    handler = Handler()
    async with working(bus, handler, reject=Rejections(away).record):
        await js.publish("tick.snapshot.main.nas", b"?")  # and wait until it is stored
        await free_again(js, "tick.snapshot.main.nas")
        await bus.publish_tick(a_tick())
        await handler.ticks.get()


async def test_heartbeats_keep_a_job_ours_alone_for_longer_than_the_ack_wait(
    bus: Bus, other: Bus, js: JetStreamContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetstream, "FETCH_TIMEOUT_SECONDS", 3.0)
    await bus.provision(["main"], 1)
    handler = Handler(hold=asyncio.Event())
    async with working(bus, handler, ack_wait=1, heartbeat=0.25):
        await bus.publish_tick(a_tick())
        await handler.ticks.get()
        await assert_empty(other.ticks(Job.SNAPSHOT, "main"))  # a rival asks for three ack waits
        assert handler.hold is not None
        handler.hold.set()
        await free_again(js, "tick.snapshot.main.nas")
    assert handler.taken == [a_tick()]
    assert not handler.cancelled.is_set()


async def test_a_job_whose_bus_is_away_too_long_is_ended_before_a_rival_may_start_and_is_not_acknowledged(
    bus: Bus, nats_server: NatsServer
) -> None:
    ack_wait = 4
    await bus.provision(["main"], ack_wait)
    handler = Handler(hold=asyncio.Event())
    async with working(bus, handler, ack_wait=ack_wait, heartbeat=0.3):
        await bus.publish_tick(a_tick())
        await handler.ticks.get()
        await nats_server.stop()
        gone = time.monotonic()
        try:
            async with asyncio.timeout(ack_wait):
                await handler.cancelled.wait()
            assert time.monotonic() - gone > ack_wait / 2 - 0.5
        finally:
            await nats_server.start()
        assert await handler.ticks.get() == a_tick()  # it was not acknowledged, so it comes again


async def test_an_outage_shorter_than_half_the_ack_wait_interrupts_no_job(
    bus: Bus, other: Bus, nats_server: NatsServer, js: JetStreamContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jetstream, "FETCH_TIMEOUT_SECONDS", 1.0)
    await bus.provision(["main"], 20)
    handler = Handler(hold=asyncio.Event())
    async with working(bus, handler, ack_wait=20, heartbeat=0.2):
        await bus.publish_tick(a_tick())
        await handler.ticks.get()
        # The server writes down who has what a moment later; killed before, it would hand the tick out again.
        await assert_empty(other.ticks(Job.SNAPSHOT, "main"))
        await nats_server.kill()
        await nats_server.start()
        await assert_empty(other.ticks(Job.SNAPSHOT, "main"))
        assert handler.hold is not None
        handler.hold.set()
        await free_again(js, "tick.snapshot.main.nas")
    assert handler.taken == [a_tick()]


async def test_a_stopping_worker_gives_a_long_job_up_and_another_gets_it_at_once(bus: Bus, other: Bus) -> None:
    handler = Handler(hold=asyncio.Event())
    async with working(bus, handler, drain=0.1):
        await bus.publish_tick(a_tick())
        await handler.ticks.get()
    assert handler.cancelled.is_set()
    async with asyncio.timeout(10):  # far below the ack wait of 30 s
        assert (await delivered(other.ticks(Job.SNAPSHOT, "main"))).body == GOOD_BODY


async def test_a_stopping_worker_lets_a_short_job_end(bus: Bus, js: JetStreamContext) -> None:
    handler = Handler(hold=asyncio.Event())
    async with working(bus, handler, drain=BOUND_SECONDS):
        await bus.publish_tick(a_tick())
        await handler.ticks.get()
        assert handler.hold is not None
        asyncio.get_running_loop().call_later(0.3, handler.hold.set)
    assert not handler.cancelled.is_set()
    assert not await stored(js, "tick.snapshot.main.nas")


async def test_a_heartbeat_that_is_answered_just_as_the_job_ends_holds_nothing_up(
    bus: Bus, js: JetStreamContext
) -> None:
    lengths = iter(range(300))

    async def briefly(_: Tick) -> Disposition:
        await asyncio.sleep(next(lengths) % 30 / 10_000)  # some of them end in the very moment of an answer
        return Done()

    async with working(bus, briefly, heartbeat=0.0):
        for number in range(300):
            assert await bus.publish_tick(a_tick(slot=SLOT + timedelta(hours=number))) is Accepted.STORED
            await free_again(js, "tick.snapshot.main.nas")


async def test_an_idle_worker_stops_at_once(bus: Bus) -> None:
    async with asyncio.timeout(3), working(bus, Handler()):
        await bus.publish_tick(a_tick("other", store="attic"))


async def test_a_cancelled_worker_takes_its_job_with_it(bus: Bus) -> None:
    handler = Handler(hold=asyncio.Event())
    async with working(bus, handler) as task:
        await bus.publish_tick(a_tick())
        await handler.ticks.get()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert handler.cancelled.is_set()


async def test_a_trigger_reaches_the_scheduler(bus: Bus, other: Bus) -> None:
    number = await bus.publish_trigger(Trigger(hosts=("nas",), by="alice"))
    delivery = await delivered(other.triggers())
    assert delivery.stream_sequence == number
    assert delivery.subject == "backup.trigger"
    assert delivery.stored_at.tzinfo is not None
