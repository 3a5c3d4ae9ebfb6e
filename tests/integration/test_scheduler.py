"""The scheduler with the real bus and log: every slot once, every wish answered, and nothing it reads ends it."""

from __future__ import annotations

import asyncio
import copy
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any

import msgspec
import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from services.scheduler import handler, service
from services.scheduler.handler import Scheduler
from services.scheduler.service import serve
from shared.adapters.bus_layout import TICKS, TRIGGERED_JOBS, TRIGGERS
from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import Accepted, Bus, Delivery, Inbox
from shared.adapters.postgres import EventLog
from shared.config import Settings
from shared.domain.events import (
    AnyEvent,
    BackupRequested,
    HostFoundOffline,
    Job,
    MessageRejected,
    Recorded,
    RequestRefused,
    RestoreCancelled,
    RestoreRequested,
    SettingsChanged,
    SlotSkipped,
)
from shared.domain.messages import Tick, Trigger, decode_tick, tick_message_id
from shared.domain.names import REFUSED_STREAM, SETTINGS_STREAM, HostName, host_stream
from shared.domain.projection import State, evolve, replay
from shared.domain.schedule import newest_slot, trigger_slot
from shared.runtime.rejected import Rejections
from tests.support.builders import SLOT, a_run, build, everything, first_that, new, some_settings
from tests.support.servers import BOUND_SECONDS, Database, NatsServer, SharedPostgres

pytestmark = pytest.mark.timeout(BOUND_SECONDS)

HOSTS = [f"host-{number:02}" for number in range(20)]
OVERSIZED = b"x" * (2 * 1024 * 1024)


@pytest.fixture
def settings(database: Database, nats_server: NatsServer) -> Settings:
    return some_settings(HOSTS, nats_url=nats_server.url, postgres_dsn=database.worker_dsn)


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
async def scheduling(*settings: Settings) -> AsyncIterator[None]:
    """A scheduler for each of these settings, from here to the end of the block; when one breaks, so does the test."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as schedulers:
        for each in settings:
            schedulers.create_task(serve(each, stop))
        yield
        stop.set()


def a_scheduler(settings: Settings, bus: Bus, log: EventLog, state: State | None = None) -> Scheduler:
    return Scheduler(settings, bus, log, Rejections(log), state=state or State())


def now() -> datetime:
    return SystemClock().now()


@pytest.fixture(autouse=True)
def one_job(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told here of publishing holds for every job: so, but where it is about them, there is only one."""
    if "all_jobs" not in request.keywords:
        every = handler.cadences
        monkeypatch.setattr(
            handler, "cadences", lambda settings: [one for one in every(settings) if one.job is Job.SNAPSHOT]
        )


async def publish(raw: Client, subject: str, body: bytes = b"") -> None:
    """What `nats pub` does."""
    await raw.publish(subject, body)
    await raw.flush()


async def ticks_on(js: JetStreamContext) -> list[Tick]:
    """Everything that is pending."""
    state = (await js.stream_info(TICKS)).state
    messages = []
    for number in range(max(1, state.first_seq), state.last_seq + 1):
        with suppress(NotFoundError):  # settled out of order
            messages.append(await js.get_msg(TICKS, number))
    return [decode_tick(message.subject or "", message.data or b"") for message in messages]


async def until_stored(js: JetStreamContext, number: int) -> list[Tick]:
    """The ticks as soon as there are so many."""
    while (await js.stream_info(TICKS)).state.messages < number:  # noqa: ASYNC110  # the server tells nobody
        await asyncio.sleep(0.02)
    return await ticks_on(js)


async def settle_everything(bus: Bus, log: EventLog, number: int, job: Job = Job.SNAPSHOT) -> list[Tick]:
    """Work so many ticks off as a worker that skips everything."""
    inbox = bus.ticks(job, "main")
    worked = []
    for _ in range(number):
        delivery = await delivered(inbox)
        tick = decode_tick(delivery.subject, delivery.body)
        await log.append(host_stream(tick.host), None, [new(build(SlotSkipped, job=job, slot=tick.slot))])
        await delivery.done()
        worked.append(tick)
    await inbox.leave()
    return worked


async def delivered(inbox: Inbox) -> Delivery:
    while (delivery := await inbox.next()) is None:
        pass
    return delivery


def of(kind: type[AnyEvent]) -> Callable[[Recorded], bool]:
    return lambda recorded: isinstance(recorded.event, kind)


async def until_recorded(log: EventLog, kind: type[AnyEvent], number: int) -> list[Recorded]:
    """The events of a type as soon as there are so many."""
    position = 0
    for _ in range(number):
        position = (await first_that(log, of(kind), after=position)).position
    return [event for event in await everything(log) if isinstance(event.event, kind)]


# Slots


async def test_two_schedulers_store_each_slot_once(bus: Bus, log: EventLog, settings: Settings) -> None:
    first, second = (a_scheduler(settings, bus, log) for _ in range(2))
    await asyncio.gather(first.publish_due(SLOT), second.publish_due(SLOT))
    counts = first.counts + second.counts
    assert counts == {Accepted.STORED: 20, Accepted.DUPLICATE: 20}


async def test_while_a_slot_is_pending_the_next_one_waits_and_then_only_the_newest_is_published(
    bus: Bus, log: EventLog, settings: Settings, js: JetStreamContext
) -> None:
    scheduler = a_scheduler(settings, bus, log)
    await scheduler.publish_due(SLOT)
    for hours in (1, 2, 3):
        await scheduler.publish_due(SLOT + timedelta(hours=hours))
    assert scheduler.counts == {Accepted.STORED: 20, Accepted.ALREADY_RUNNING: 60}
    assert {tick.slot for tick in await settle_everything(bus, log, 20)} == {SLOT}
    scheduler.state = replay([await everything(log)])
    later = SLOT + timedelta(hours=3, minutes=20)
    await scheduler.publish_due(later)
    assert Counter(tick.slot for tick in await ticks_on(js)) == {SLOT + timedelta(hours=3): 20}


async def test_what_was_published_is_not_published_again_at_once(bus: Bus, log: EventLog, settings: Settings) -> None:
    scheduler = a_scheduler(settings, bus, log)
    for seconds in range(30):
        await scheduler.publish_due(SLOT + timedelta(seconds=seconds))
    assert scheduler.counts == {Accepted.STORED: 20}


async def test_a_tick_that_the_bus_lost_is_published_again(
    bus: Bus, log: EventLog, settings: Settings, js: JetStreamContext, nats_server: NatsServer
) -> None:
    scheduler = a_scheduler(settings, bus, log)
    await scheduler.publish_due(SLOT)
    await js.delete_stream(TICKS)
    await bus.provision(["main"], 30)
    await scheduler.publish_due(SLOT + timedelta(minutes=2))
    assert len(await ticks_on(js)) == 20


async def test_two_running_schedulers_publish_every_host_once_and_nothing_that_is_settled(
    bus: Bus, log: EventLog, settings: Settings, js: JetStreamContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PASS_SECONDS", 0.05)
    before = newest_slot(1, now())
    async with scheduling(settings, settings):
        await until_stored(js, 20)
        worked = await settle_everything(bus, log, 20)
        assert Counter(tick.host for tick in worked) == Counter(HOSTS)
        assert {tick.slot for tick in worked} <= {before, newest_slot(1, now())}
        for host in HOSTS[:4]:  # long enough for many passes of both
            await bus.publish_trigger(Trigger(hosts=(host,)))
            await until_stored(js, 1)
            assert [tick.host for tick in await settle_everything(bus, log, 1)] == [host]
        if newest_slot(1, now()) == before:
            assert await ticks_on(js) == []
            assert (await js.stream_info(TICKS)).state.last_seq == 24


async def test_after_a_weekend_without_power_only_the_newest_slot_is_published(
    bus: Bus, log: EventLog, settings: Settings, js: JetStreamContext
) -> None:
    long_ago = newest_slot(1, now()) - timedelta(hours=60)
    for host in HOSTS:
        await log.append(host_stream(HostName(host)), None, [new(build(SlotSkipped, slot=long_ago))])
    before = newest_slot(1, now())
    async with scheduling(settings):
        ticks = await until_stored(js, 20)
    assert Counter(tick.host for tick in ticks) == Counter(HOSTS)
    assert {tick.slot for tick in ticks} <= {before, newest_slot(1, now())}


async def test_a_slot_that_the_log_knows_as_done_is_not_published_though_the_bus_forgot_it(
    bus: Bus, log: EventLog, settings: Settings, js: JetStreamContext, nats_server: NatsServer
) -> None:
    at = newest_slot(1, now())
    await a_scheduler(settings, bus, log).publish_due(at)
    await settle_everything(bus, log, 20)
    await nats_server.stop()
    await nats_server.start()  # now it no longer knows the ids of what was worked off
    more = some_settings([*HOSTS, "late"], nats_url=settings.nats_url, postgres_dsn=settings.postgres_dsn)
    restarted = a_scheduler(more, bus, log, replay([await everything(log)]))
    await restarted.publish_due(at + timedelta(minutes=1))
    assert [tick.host for tick in await ticks_on(js)] == ["late"]
    assert restarted.counts == {Accepted.STORED: 1}


async def test_a_restarted_scheduler_does_not_add_to_what_is_pending(
    bus: Bus, log: EventLog, settings: Settings, js: JetStreamContext
) -> None:
    before = newest_slot(1, now())
    for turn in range(2):
        async with scheduling(settings):
            if turn == 1:
                await publish_wish_and_wait(bus, log)
            ticks = await until_stored(js, 20)
    assert len(ticks) == 20
    assert {tick.slot for tick in ticks} <= {before, newest_slot(1, now())}


async def publish_wish_and_wait(bus: Bus, log: EventLog) -> None:
    await bus.publish_trigger(Trigger(hosts=("host-00",)))
    await first_that(log, of(BackupRequested))


async def test_the_message_id_of_a_slot_says_job_host_and_slot() -> None:
    tick = Tick(Job.SNAPSHOT, some_settings().store, HostName("nas"), SLOT)
    assert tick_message_id(tick) == "snapshot:nas:20260306T080000Z"


# Wishes


@pytest.fixture
async def idle(bus: Bus, log: EventLog, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of hosts that are all done for now, so that only wishes make ticks."""
    done = newest_slot(744, now())  # the next one is days away: no test notices a full hour
    for host in HOSTS:
        await log.append(host_stream(HostName(host)), None, [new(build(SlotSkipped, slot=done))])
    for pause in ("PASS_SECONDS", "LOG_RETRY_SECONDS", "WISH_RETRY_SECONDS"):
        monkeypatch.setattr(service, pause, 0.1)
    rare = tuple(msgspec.structs.replace(host, snapshot_interval_hours=744) for host in settings.hosts)
    return replaced(settings, hosts=rare)


async def test_an_empty_message_from_any_client_asks_for_every_host_once_even_with_two_schedulers(
    idle: Settings, log: EventLog, raw: Client, js: JetStreamContext
) -> None:
    async with scheduling(idle, idle):
        await publish(raw, "backup.trigger")
        requested = await until_recorded(log, BackupRequested, 20)
        ticks = await until_stored(js, 20)
        await until_granted(js)
    assert Counter(event.stream for event in requested) == Counter(f"host-{host}" for host in HOSTS)
    assert Counter(tick.host for tick in ticks) == Counter(HOSTS)
    events = await everything(log)
    assert sum(isinstance(event.event, BackupRequested) for event in events) == 20
    assert not any(isinstance(event.event, RequestRefused | MessageRejected) for event in events)
    slots = {event.event.slot for event in requested if isinstance(event.event, BackupRequested)}
    assert slots == {tick.slot for tick in ticks}
    assert len(slots) == 1


async def until_granted(js: JetStreamContext) -> None:
    while (await js.stream_info(TRIGGERS)).state.messages:  # noqa: ASYNC110  # the server tells nobody
        await asyncio.sleep(0.02)


async def test_a_wish_keeps_what_was_said_in_it(
    idle: Settings, log: EventLog, raw: Client, js: JetStreamContext
) -> None:
    wish = {"hosts": ["host-03", "host-07", "host-03"], "dry_run": True, "by": "zoë\x00\x1b[2J"}
    async with scheduling(idle):
        await publish(raw, "backup.trigger", msgspec.json.encode(wish))
        await until_recorded(log, BackupRequested, 2)
        ticks = await until_stored(js, 2)
        await until_granted(js)
    events = [event for event in await everything(log) if isinstance(event.event, BackupRequested)]
    assert [event.stream for event in events] == ["host-host-03", "host-host-07"]
    assert {(event.event.by, event.event.dry_run) for event in events if isinstance(event.event, BackupRequested)} == {
        (wish["by"], True)
    }
    assert [(tick.host, tick.dry_run) for tick in ticks] == [("host-03", True), ("host-07", True)]


async def test_a_wish_for_a_busy_host_is_refused_once_with_the_reason_and_the_others_are_granted(
    idle: Settings, bus: Bus, log: EventLog, raw: Client, js: JetStreamContext
) -> None:
    await bus.publish_tick(Tick(Job.SNAPSHOT, idle.store, HostName("host-05"), SLOT))
    async with scheduling(idle, idle):
        await publish(raw, "backup.trigger")
        refused = await until_recorded(log, RequestRefused, 1)
        await until_stored(js, 20)
        await until_granted(js)
    assert [event.stream for event in refused] == ["host-host-05"]
    assert "running" in str(refused[0].event)
    events = await everything(log)
    assert sum(isinstance(event.event, RequestRefused) for event in events) == 1
    assert sum(isinstance(event.event, BackupRequested) for event in events) == 20


async def test_a_wish_that_is_delivered_twice_is_recorded_once(idle: Settings, bus: Bus, log: EventLog) -> None:
    await bus.publish_trigger(Trigger(by="alice"))
    delivery = await delivered(bus.triggers())
    for _ in range(2):  # the first scheduler died before it could say that it was done
        await a_scheduler(idle, bus, log).grant(delivery)
    counts = Counter(type(event.event) for event in await everything(log))
    assert counts == {SlotSkipped: 20, BackupRequested: 20}


REFUSED: dict[str, tuple[str, bytes]] = {
    "unknown JSON": ("backup.trigger", b'{"command":"rm -rf /"}'),
    "no JSON": ("backup.trigger", b"now please"),
    "no hosts": ("backup.trigger", b'{"hosts":[]}'),
    "a host that is not there": ("backup.trigger", b'{"hosts":["host-00","stranger"]}'),
    "a subject of a host that is not there": ("backup.trigger.stranger", b""),
    "an option of ssh": ("backup.trigger", b'{"hosts":["-oProxyCommand=x"]}'),
    "an option of ssh in the subject": ("backup.trigger.-oProxyCommand=x", b""),
    "a wildcard in the subject": ("backup.trigger.*", b""),
    "everything in the subject": ("backup.trigger.>", b""),
    "a job nobody knows": ("backup.trigger", b'{"job":"sweep"}'),
    "2 MB": ("backup.trigger", OVERSIZED),
    "binary": ("backup.trigger", b"\x00\xff\xfe{\x1b[2J" * 9),
    "a lone surrogate": ("backup.trigger", b'{"by":"\xed\xa0\x80"}'),
    "an escaped lone surrogate": ("backup.trigger", b'{"hosts":["\\ud800"]}'),
    "deep nesting": ("backup.trigger", b"[" * 60_000),
}


async def test_wishes_that_are_not_understood_are_recorded_and_the_scheduler_lives_on(
    idle: Settings, log: EventLog, raw: Client, js: JetStreamContext
) -> None:
    async with scheduling(idle):
        after = 0
        for what, (subject, body) in REFUSED.items():
            await publish(raw, subject, body)
            recorded = await first_that(log, of(MessageRejected), after=after)
            after = recorded.position
            assert recorded.stream == REFUSED_STREAM, what
            assert isinstance(recorded.event, MessageRejected)
            assert (recorded.event.subject, recorded.event.size_bytes) == (subject, len(body)), what
            assert recorded.event.reason, what
            assert recorded.event.preview.isprintable(), what
        await publish(raw, "backup.trigger.host-00")
        await until_recorded(log, BackupRequested, 1)
        await until_granted(js)
    events = [event for event in await everything(log) if not isinstance(event.event, SlotSkipped | SettingsChanged)]
    assert Counter(type(event.event) for event in events) == {MessageRejected: len(REFUSED), BackupRequested: 1}
    assert [tick.host for tick in await ticks_on(js)] == ["host-00"]


async def test_of_a_hundred_wishes_in_a_burst_each_is_answered(
    idle: Settings, log: EventLog, raw: Client, js: JetStreamContext
) -> None:
    async with scheduling(idle, idle):
        for _ in range(100):
            await raw.publish("backup.trigger.host-00", b"")
        await raw.flush()
        await until_recorded(log, BackupRequested, 100)
        await until_granted(js)
    counts = Counter(type(event.event) for event in await log.read_stream("host-host-00"))
    assert counts[BackupRequested] == 100
    assert len(await ticks_on(js)) == 1


async def test_a_wish_in_the_second_of_one_that_is_done_is_answered_and_not_left_waiting(
    idle: Settings, bus: Bus, log: EventLog
) -> None:
    await bus.publish_trigger(Trigger(hosts=("host-00",)))
    first = await delivered(bus.triggers())
    scheduler = a_scheduler(idle, bus, log)
    await scheduler.grant(first)
    slot = trigger_slot(first.stored_at)
    await bus.withdraw_tick(Tick(Job.SNAPSHOT, idle.store, HostName("host-00"), slot))
    await log.append(host_stream(HostName("host-00")), None, [new(build(SlotSkipped, slot=slot))])
    again = copy.copy(first)  # another wish of the same second
    again.stream_sequence = first.stream_sequence + 1
    await scheduler.grant(again)
    refused = [event.event for event in await everything(log) if isinstance(event.event, RequestRefused)]
    assert [event.slot for event in refused] == [slot]
    assert "done" in refused[0].reason


async def test_an_offline_host_is_tried_at_once_when_a_person_asks(
    idle: Settings, bus: Bus, log: EventLog, js: JetStreamContext
) -> None:
    await bus.publish_tick(Tick(Job.SNAPSHOT, idle.store, HostName("host-00"), SLOT))
    await log.append(host_stream(HostName("host-00")), None, [new(build(HostFoundOffline))])
    scheduler = a_scheduler(idle, bus, log)
    async for page in log.pages():
        for recorded in page:
            evolve(scheduler.state, recorded)
    await bus.publish_trigger(Trigger(hosts=("host-00",)))
    wish = await delivered(bus.triggers())
    await scheduler.grant(wish)
    assert [tick.slot for tick in await ticks_on(js)] == [trigger_slot(wish.stored_at)]
    assert not any(isinstance(event.event, RequestRefused) for event in await everything(log))


# Settings


async def test_settings_are_recorded_once_and_a_change_with_the_names_of_what_changed(
    bus: Bus, log: EventLog, settings: Settings, js: JetStreamContext
) -> None:
    async with scheduling(settings, settings, settings):
        await until_stored(js, 20)  # they publish only after they recorded
    async with scheduling(settings):
        await publish_wish_and_wait(bus, log)
    changed = replaced(settings, daily_retention_days=90, hosts=settings.hosts[:-1])
    async with scheduling(changed, changed):
        second = await first_that(log, lambda event: of(SettingsChanged)(event) and event.version == 2)
        await until_stored(js, 20)
    recorded = await log.read_stream(SETTINGS_STREAM)
    assert len(recorded) == 2
    first = recorded[0].event
    assert isinstance(first, SettingsChanged)
    assert first.settings == settings.described()
    assert isinstance(second.event, SettingsChanged)
    assert second.event.settings["DAILY_RETENTION_DAYS"] == "90"
    fields = {name.removeprefix("hosts.host-19.") for name in second.event.changed}
    assert {"DAILY_RETENTION_DAYS", "HOSTS", "address"} <= fields
    assert not any("host-18" in name for name in second.event.changed)


def replaced(settings: Settings, **fields: Any) -> Settings:
    return msgspec.structs.replace(settings, **fields)


async def test_no_secret_gets_into_the_log(bus: Bus, log: EventLog, settings: Settings, js: JetStreamContext) -> None:
    async with scheduling(settings):
        await until_stored(js, 20)
    text = str(await everything(log))
    for secret in (settings.postgres_dsn, settings.nats_url, "p@ss", "p%40ss", settings.nats_url.split("@")[0][7:]):
        assert secret not in text


async def test_a_scheduler_ends_when_it_is_told_to_whatever_it_is_doing(
    bus: Bus, settings: Settings, js: JetStreamContext
) -> None:
    for _ in range(12):
        async with asyncio.timeout(15), scheduling(settings, settings, settings):
            await until_stored(js, 20)


# Outages


@pytest.mark.usefixtures("bus")
async def test_without_the_log_slots_are_published_and_the_settings_recorded_when_it_is_back(
    log: EventLog,
    settings: Settings,
    js: JetStreamContext,
    shared_server: SharedPostgres,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "CATCH_UP_SECONDS", 0.5)
    monkeypatch.setattr(service, "LOG_RETRY_SECONDS", 0.1)
    await shared_server.kill()
    async with scheduling(settings):
        await until_stored(js, 20)
        await shared_server.start()
        await first_that(log, of(SettingsChanged))


async def test_a_wish_waits_for_the_log_and_is_granted_when_it_is_back(
    idle: Settings, bus: Bus, log: EventLog, js: JetStreamContext, shared_server: SharedPostgres
) -> None:
    async with scheduling(idle):
        await first_that(log, of(SettingsChanged))
        await shared_server.kill()
        await bus.publish_trigger(Trigger(hosts=("host-00",)))
        await until_tried(js, 2)
        await shared_server.start()
        await until_recorded(log, BackupRequested, 1)
        await until_stored(js, 1)
        await until_granted(js)
    assert Counter(type(event.event) for event in await log.read_stream("host-host-00"))[BackupRequested] == 1


async def until_tried(js: JetStreamContext, times: int) -> None:
    """Wait until a wish was delivered so often."""
    while (await js.consumer_info(TRIGGERS, "scheduler")).delivered.consumer_seq < times:  # noqa: ASYNC110  # the server tells nobody
        await asyncio.sleep(0.02)


async def test_after_a_killed_bus_wishes_are_granted_again(
    idle: Settings, bus: Bus, log: EventLog, js: JetStreamContext, nats_server: NatsServer
) -> None:
    async with scheduling(idle):
        await publish_wish_and_wait(bus, log)
        await nats_server.kill()
        await nats_server.start()
        await bus.publish_trigger(Trigger(hosts=("host-01",)))
        await first_that(log, lambda event: event.stream == "host-host-01" and of(BackupRequested)(event))


@pytest.mark.all_jobs
async def test_the_archive_follows_the_snapshot_and_the_retention_the_archive(
    bus: Bus, log: EventLog, settings: Settings, js: JetStreamContext
) -> None:
    at = newest_slot(4, now())
    scheduler = a_scheduler(settings, bus, log)

    for job in (Job.SNAPSHOT, Job.ARCHIVE, Job.RETENTION):
        await scheduler.publish_due(at)
        assert {(tick.job, tick.slot) for tick in await ticks_on(js)} == {(job, at)}
        await settle_everything(bus, log, 20, job)
        scheduler.state = replay([await everything(log)])
    await scheduler.publish_due(at)
    assert await ticks_on(js) == []


@pytest.mark.all_jobs
@pytest.mark.parametrize("job", TRIGGERED_JOBS)
async def test_every_job_can_be_asked_for(
    job: Job, bus: Bus, log: EventLog, settings: Settings, js: JetStreamContext
) -> None:
    async with scheduling(settings):
        await bus.publish_trigger(Trigger(hosts=("host-03",), job=job, dry_run=True))
        while not (found := [tick for tick in await ticks_on(js) if tick.dry_run]):  # noqa: ASYNC110  # as above
            await asyncio.sleep(0.02)
    assert [(tick.job, tick.host) for tick in found] == [(job, "host-03")]


@pytest.mark.all_jobs
async def test_a_restore_that_waits_in_the_log_gets_a_tick_until_it_has_ended(
    bus: Bus, log: EventLog, settings: Settings, js: JetStreamContext
) -> None:
    stream, restore = host_stream(HostName("host-03")), a_run()
    await log.append(stream, None, [new(build(RestoreRequested, restore=restore), run=restore)])
    scheduler, at = a_scheduler(settings, bus, log), now().replace(microsecond=0)
    scheduler.state = replay([await everything(log)])

    async def restores_at(moment: datetime) -> list[datetime]:
        await scheduler.publish_due(moment)
        return [tick.slot for tick in await ticks_on(js) if tick.job is Job.RESTORE]

    assert await restores_at(at) == [at]
    assert await restores_at(at + timedelta(hours=1)) == [at]  # refused while the first one is pending
    await js.purge_stream(TICKS)
    assert await restores_at(at + timedelta(hours=2)) == [at + timedelta(hours=2)]  # worked off, and still not done
    await js.purge_stream(TICKS)
    cancelled = build(RestoreCancelled, restore=restore)
    await log.append(stream, None, [new(cancelled)])
    scheduler.state = replay([await everything(log)])
    assert await restores_at(at + timedelta(hours=3)) == []
