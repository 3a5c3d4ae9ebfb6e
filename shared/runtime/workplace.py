"""What every worker of a store has around it: the drive, the log with its relay, the bus, the cancels."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import Bus, BusUser
from shared.adapters.postgres import EventLog
from shared.adapters.store import Store
from shared.config import Settings
from shared.domain.errors import LogUnavailable, StoreRefused
from shared.domain.events import Job, NewEvent, StoreEnrolled
from shared.domain.ids import derived_id
from shared.domain.names import store_stream
from shared.domain.writers import Service, relayed_by
from shared.runtime.cancel import Cancels
from shared.runtime.host_log import HostLog
from shared.runtime.outbox import Outbox
from shared.runtime.rejected import Rejections
from shared.runtime.watch import fail_when_closed
from shared.runtime.worker import Handle, Worker

DRAIN_SECONDS: Final = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ways:
    """The ways to the log and the bus, which all stores of a process share. `worker` names this process."""

    settings: Settings
    service: Service
    events: EventLog
    bus: Bus
    cancels: Cancels
    rejections: Rejections
    clock: SystemClock
    worker: str
    leave: asyncio.Event
    """Set when no tick is to be begun any more; what is under way goes on to its end."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """A store that is mounted here, and the ways to the log and the bus."""

    ways: Ways
    store: Store
    log: HostLog

    @property
    def cancels(self) -> Cancels:
        """Who calls runs off."""
        return self.ways.cancels

    @property
    def clock(self) -> SystemClock:
        """The time."""
        return self.ways.clock

    @property
    def worker(self) -> str:
        """What this process is called."""
        return self.ways.worker

    async def work(self, job: Job, handle: Handle, stop: asyncio.Event) -> None:
        """Work off the ticks of a job for this store until told to stop."""
        timing = self.ways.settings.timing
        worker = Worker(
            self.ways.bus.ticks(job, self.store.identity.name),
            handle,
            self.ways.rejections.record,
            ack_wait_seconds=timing.ack_wait_seconds,
            heartbeat_seconds=timing.heartbeat_seconds,
            drain_seconds=DRAIN_SECONDS,
            clock=self.clock,
        )
        await worker.run(stop, self.ways.leave)


@asynccontextmanager
async def connected(settings: Settings, service: str, stop: asyncio.Event) -> AsyncIterator[Ways]:
    """The ways to log and bus while the block lasts. Raises BusUnavailable."""
    events = EventLog(settings.postgres_dsn)
    bus = await Bus.connect(settings.nats_url, BusUser(service, settings.nats_nkey_file))
    try:
        rejections = Rejections(events)
        cancels = Cancels(bus, rejections)
        worker = f"{platform.node()}:{os.getpid()}"
        clock, leave = SystemClock(), asyncio.Event()
        ways = Ways(settings, Service(service), events, bus, cancels, rejections, clock, worker, leave)
        async with asyncio.TaskGroup() as tasks, cancels.heard():
            closed = tasks.create_task(fail_when_closed(bus, stop))
            yield ways
            closed.cancel()
    finally:
        await bus.close()
        await events.close()


@asynccontextmanager
async def workplace(ways: Ways, store: Store, stop: asyncio.Event) -> AsyncIterator[Workplace]:
    """Relay what the log has not heard from this store while the block lasts, and until `stop` is set.

    Raises StoreRefused before anything is written.
    """
    await enrol(store, ways.events)
    outbox = Outbox(store, ways.events, relayed_by(ways.service))
    async with asyncio.TaskGroup() as tasks:
        relay = tasks.create_task(outbox.relay(stop))
        yield Workplace(ways, store, HostLog(ways.events, outbox))
        await relay


async def enrol(store: Store, events: EventLog) -> None:
    """Make the drive known under its name, once. Raises StoreRefused when another drive has the name."""
    identity = store.identity
    stream = store_stream(identity.name)
    fact = StoreEnrolled(store=identity.name, uuid=identity.uuid)
    try:
        known = [event.event for event in await events.read_stream(stream)]
        enrolled = [event for event in known if isinstance(event, StoreEnrolled)]
        if not enrolled:
            await events.append(stream, None, [NewEvent(derived_id("enrolled", str(identity.uuid)), fact)])
        elif enrolled[-1].uuid != identity.uuid:
            raise StoreRefused(
                f"{store.root} is another drive than the one known as {identity.name!r}.",
                "Mount the right drive.",
            )
    except LogUnavailable:
        log.warning("The event log is away: the drive is recognised by its own word only.")
