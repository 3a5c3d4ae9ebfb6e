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
class Workplace:
    """A store that is mounted here, and the ways to the log and the bus. `worker` names this process."""

    settings: Settings
    store: Store
    log: HostLog
    bus: Bus
    cancels: Cancels
    rejections: Rejections
    clock: SystemClock
    worker: str

    async def work(self, job: Job, handle: Handle, stop: asyncio.Event) -> None:
        """Work off the ticks of a job until told to stop."""
        timing = self.settings.timing
        worker = Worker(
            self.bus.ticks(job, self.settings.store),
            handle,
            self.rejections.record,
            ack_wait_seconds=timing.ack_wait_seconds,
            heartbeat_seconds=timing.heartbeat_seconds,
            drain_seconds=DRAIN_SECONDS,
            clock=self.clock,
        )
        await worker.run(stop)


@asynccontextmanager
async def workplace(settings: Settings, service: str, stop: asyncio.Event) -> AsyncIterator[Workplace]:
    """Open everything, and relay what the log has not heard while the block lasts.

    Raises StoreRefused before anything is written, and BusUnavailable.
    """
    store = Store.open(settings.backup_root, settings.store)
    events = EventLog(settings.postgres_dsn)
    bus = await Bus.connect(settings.nats_url, BusUser(service, settings.nats_nkey_file))
    try:
        await enrol(store, events)
        rejections = Rejections(events)
        outbox = Outbox(store, events, relayed_by(Service(service)))
        cancels = Cancels(bus, rejections)
        worker = f"{platform.node()}:{os.getpid()}"
        place = Workplace(settings, store, HostLog(events, outbox), bus, cancels, rejections, SystemClock(), worker)
        async with asyncio.TaskGroup() as tasks, cancels.heard():
            relay = tasks.create_task(outbox.relay(stop))
            tasks.create_task(fail_when_closed(bus, stop))
            yield place
            await relay
    finally:
        await bus.close()
        await events.close()
        store.close()


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
