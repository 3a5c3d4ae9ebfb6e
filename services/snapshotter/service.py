"""Wires the snapshotter: the store, the log, the bus and the worker loop."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from datetime import timedelta
from typing import Final

from services.snapshotter.handler import Snapshotter
from services.snapshotter.transfer import find_ability
from shared.adapters import filesystem, journal
from shared.adapters.anchors import Anchor, read_anchors, write_anchor
from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import Bus
from shared.adapters.postgres import EventLog
from shared.adapters.store import Store
from shared.adapters.threads import in_thread
from shared.config import Settings
from shared.domain.errors import BackupManagerError, HostBusy, LogUnavailable, StoreRefused
from shared.domain.events import Job, NewEvent, StoreEnrolled
from shared.domain.ids import derived_id
from shared.domain.names import store_stream
from shared.runtime.outbox import Outbox
from shared.runtime.rejected import Rejections
from shared.runtime.watch import fail_when_closed
from shared.runtime.worker import Worker

DRAIN_SECONDS: Final = 5.0
ANCHOR_AGE: Final = timedelta(hours=24)
ANCHOR_CHECK_SECONDS: Final = 600.0

log = logging.getLogger(__name__)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Take snapshots until told to stop. Raises StoreRefused before anything is written."""
    store = Store.open(settings.backup_root, settings.store)
    events = EventLog(settings.postgres_dsn)
    bus = await Bus.connect(settings.nats_url, "snapshotter")
    try:
        await _enrol(store, events)
        await _work(settings, store, events, bus, stop)
    finally:
        await bus.close()
        await events.close()
        store.close()


async def _work(settings: Settings, store: Store, events: EventLog, bus: Bus, stop: asyncio.Event) -> None:
    clock = SystemClock()
    outbox = Outbox(store, events)
    ability = await find_ability(attributes=filesystem.supports_user_xattrs(store.descriptor))
    if not ability.confined:
        log.warning("The receiver is not confined: bubblewrap does not work here. `backup-manager doctor` says why.")
    name = f"{platform.node()}:{os.getpid()}"
    snapshotter = Snapshotter(settings, store, events, outbox, ability, clock, name)
    worker = Worker(
        bus.ticks(Job.SNAPSHOT, settings.store),
        snapshotter.handle,
        Rejections(events).record,
        ack_wait_seconds=settings.timing.ack_wait_seconds,
        heartbeat_seconds=settings.timing.heartbeat_seconds,
        drain_seconds=DRAIN_SECONDS,
        clock=clock,
    )
    async with asyncio.TaskGroup() as tasks:
        relay = tasks.create_task(outbox.relay(stop))
        recovery = tasks.create_task(_recover_all(snapshotter, store))
        anchoring = tasks.create_task(_anchor_daily(store, events, clock))
        tasks.create_task(fail_when_closed(bus, stop))
        await worker.run(stop)
        recovery.cancel()
        anchoring.cancel()
        await relay


async def _enrol(store: Store, events: EventLog) -> None:
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


async def _anchor_daily(store: Store, events: EventLog, clock: SystemClock) -> None:
    """Once a day, whichever worker comes first, note on the drive what the head of the log is."""
    while True:
        try:
            newest = max((anchor.at for anchor in await in_thread(read_anchors, store)), default=None)
            if newest is None or clock.now() - newest >= ANCHOR_AGE:
                head = await events.anchor()
                if head is not None:
                    await in_thread(write_anchor, store, Anchor(head[0], head[1].hex(), clock.now()))
        except (BackupManagerError, OSError) as error:
            log.warning("The log could not be anchored on the drive now: %s", error)
        await clock.sleep(ANCHOR_CHECK_SECONDS)


async def _recover_all(snapshotter: Snapshotter, store: Store) -> None:
    for host in store.hosts():
        with journal.about(host=host):
            try:
                await snapshotter.recover(host)
            except HostBusy:
                continue  # another worker is at it, and has recovered it before it began
            except BackupManagerError as error:
                log.warning("The host could not be recovered now: %s", error)
