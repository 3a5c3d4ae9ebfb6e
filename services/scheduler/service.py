"""Wires the scheduler: it follows the log, publishes slots and grants wishes."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import Final

from services.scheduler.handler import Scheduler
from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import Bus, BusUnavailable, BusUser
from shared.adapters.postgres import EventLog
from shared.config import Settings
from shared.domain.errors import LogConflict, LogRefused, LogUnavailable
from shared.domain.events import NewEvent, SettingsChanged
from shared.domain.ids import run_id
from shared.domain.names import SETTINGS_STREAM
from shared.domain.projection import State, evolve
from shared.runtime.rejected import Rejections
from shared.runtime.watch import asked_to_end, fail_when_closed

PASS_SECONDS: Final = 1.0
LOG_RETRY_SECONDS: Final = 2.0
CATCH_UP_SECONDS: Final = 30.0
WISH_RETRY_SECONDS: Final = 5.0

log = logging.getLogger(__name__)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Schedule until told to stop."""
    events = EventLog(settings.postgres_dsn)
    bus = await Bus.connect(settings.nats_url, BusUser("scheduler", settings.nats_nkey_file))
    scheduler = Scheduler(settings, bus, events, Rejections(events))
    clock = SystemClock()
    caught_up = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as tasks:
            follower = tasks.create_task(_follow(scheduler, caught_up))
            granter = tasks.create_task(_grant(scheduler, bus))
            tasks.create_task(fail_when_closed(bus, stop))
            publisher = tasks.create_task(_publish(scheduler, clock, caught_up))
            await stop.wait()
            for task in (follower, granter, publisher):
                task.cancel()
    finally:
        await bus.close()
        await events.close()


async def _follow(scheduler: Scheduler, caught_up: asyncio.Event) -> None:
    state = State()
    while True:
        try:
            async for page in scheduler.events.follow(state.position):
                for recorded in page:
                    evolve(state, recorded)
                if not page and not caught_up.is_set():
                    await _record_settings(scheduler, state)
                    scheduler.state = state
                    caught_up.set()
        except LogUnavailable as error:
            log.warning("%s", error)
            await asyncio.sleep(LOG_RETRY_SECONDS)


async def _record_settings(scheduler: Scheduler, state: State) -> None:
    """Record what is in force when it differs from before; another scheduler may have been first."""
    described = scheduler.settings.described()
    if described == state.settings:
        return
    changed = tuple(
        name
        for name in sorted(described.keys() | state.settings.keys())
        if described.get(name) != state.settings.get(name)
    )
    identity = run_id(SystemClock().unix_ms(), secrets.randbits(58))
    fact = SettingsChanged(settings=described, changed=changed)
    try:
        await scheduler.events.append(SETTINGS_STREAM, state.settings_version, [NewEvent(identity, fact)])
    except LogConflict:
        log.info("Another scheduler recorded the settings first.")


async def _publish(scheduler: Scheduler, clock: SystemClock, caught_up: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(CATCH_UP_SECONDS):
            await caught_up.wait()
    except TimeoutError:
        # Workers ask the drive as well: a slot that is done is not done again.
        log.warning("The event log is away; publishing what is due without it.")
    while not asked_to_end():
        await scheduler.publish_due(clock.now())
        await clock.sleep(PASS_SECONDS)


async def _grant(scheduler: Scheduler, bus: Bus) -> None:
    inbox = bus.triggers()
    while not asked_to_end():
        delivery = await inbox.next()
        if delivery is None:
            continue
        try:
            await scheduler.grant(delivery)
        except (BusUnavailable, LogUnavailable, LogRefused) as error:
            log.warning("A wish waits: %s", error)
            try:
                await delivery.retry_in(WISH_RETRY_SECONDS)
            except BusUnavailable:
                log.warning("The bus is away; the wish comes again by itself.")
