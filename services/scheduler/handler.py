"""Decides which ticks are due and turns wishes into ticks. Any number of schedulers may do so at once."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from shared.adapters.bus_layout import TRIGGERED_JOBS
from shared.adapters.jetstream import Accepted, Bus, BusUnavailable, Delivery
from shared.adapters.postgres import EventLog
from shared.config import HostSettings, Settings
from shared.domain.errors import MessageRefused
from shared.domain.events import BackupRequested, Job, NewEvent, RequestRefused
from shared.domain.host_state import HostState
from shared.domain.ids import derived_id
from shared.domain.messages import Tick, Trigger, decode_trigger
from shared.domain.names import HostName, host_stream
from shared.domain.projection import State, evolve_host
from shared.domain.restore_state import open_restores
from shared.domain.schedule import Cadence, due_ticks, trigger_slot
from shared.runtime.rejected import Rejections

REPEAT_REFUSED: Final = timedelta(seconds=15)
REPEAT_STORED: Final = timedelta(seconds=60)
"""A stored tick that nobody settles is published again: either it is still there, or the bus lost it."""

ARCHIVE_PATIENCE: Final = timedelta(minutes=30)
RETENTION_PATIENCE: Final = timedelta(hours=1)
"""How long one job waits for the one before it; a host that is offline must not keep its disk from being thinned."""

IN_FLIGHT: Final = 100
DONE_ALREADY: Final = "done in this very second already"

log = logging.getLogger(__name__)


def cadences(settings: Settings) -> list[Cadence]:
    """What runs how often."""
    return [cadence for host in settings.hosts for cadence in _cadences_of(host, settings.tar_interval_hours)]


def _cadences_of(host: HostSettings, heavy_hours: int) -> list[Cadence]:
    name, store = host.name, host.store
    return [
        Cadence(Job.SNAPSHOT, name, store, host.snapshot_interval_hours),
        Cadence(Job.ARCHIVE, name, store, heavy_hours, after=Job.SNAPSHOT, patience=ARCHIVE_PATIENCE),
        Cadence(Job.RETENTION, name, store, heavy_hours, after=Job.ARCHIVE, patience=RETENTION_PATIENCE),
    ]


@dataclass(slots=True)
class Scheduler:
    """Publishes what is due. `state` is kept up to date by whoever follows the log."""

    settings: Settings
    bus: Bus
    events: EventLog
    rejections: Rejections
    state: State = field(default_factory=State)
    counts: Counter[Accepted] = field(default_factory=Counter)
    began: datetime | None = None
    now: datetime | None = None
    """When it was last looked what is due."""
    _asked: dict[tuple[Job, HostName], tuple[datetime, datetime]] = field(default_factory=dict)
    _restores: dict[HostName, tuple[UUID, datetime]] = field(default_factory=dict)

    async def publish_due(self, now: datetime) -> None:
        """Publish a tick for every slot that is due and not settled. A bus that is away is tried again later."""
        due = [
            tick
            for tick in due_ticks(cadences(self.settings), self._settled(now), now, self._since(now))
            if self._is_time(tick, now)
        ]
        due += self._restores_due(now)
        turns = asyncio.Semaphore(IN_FLIGHT)

        async def publish(tick: Tick) -> None:
            async with turns:
                await self._publish(tick, now)

        try:
            async with asyncio.TaskGroup() as tasks:
                for tick in due:
                    tasks.create_task(publish(tick))
        except* BusUnavailable as group:
            log.warning("The slots that are due could not be published now: %s", group.exceptions[0])

    async def _publish(self, tick: Tick, now: datetime) -> Accepted:
        accepted = await self.bus.publish_tick(tick)
        self.counts[accepted] += 1
        pause = REPEAT_REFUSED if accepted is Accepted.ALREADY_RUNNING else REPEAT_STORED
        self._asked[(tick.job, tick.host)] = (tick.slot, now + pause)
        if accepted is Accepted.ALREADY_RUNNING:
            log.info("%s of %s is already running.", tick.job, tick.host)
        return accepted

    def _restores_due(self, now: datetime) -> list[Tick]:
        """A tick for each host with a restore that waits. It is the log that says so: no wish can be lost.

        Its slot is the moment, so that the bus takes it again when the one before was worked off.
        """
        ticks = []
        for host in self.settings.hosts:
            waiting = open_restores(self.state.hosts.get(host.name, HostState()).restores)
            oldest, again_at = self._restores.get(host.name, (None, now))
            if waiting and (waiting[0].restore != oldest or now >= again_at):
                self._restores[host.name] = (waiting[0].restore, now + REPEAT_REFUSED)
                ticks.append(Tick(Job.RESTORE, host.store, host.name, trigger_slot(now)))
        return ticks

    def _since(self, now: datetime) -> datetime:
        self.began = self.began or now
        return self.began

    def _settled(self, now: datetime) -> dict[tuple[Job, HostName], datetime]:
        """The newest settled slot of each job and host."""
        self.now = now
        return {
            (job, HostName(name)): slot
            for name, host in self.state.hosts.items()
            for job in TRIGGERED_JOBS
            if (slot := host.settled(job, now)) is not None
        }

    def _is_time(self, tick: Tick, now: datetime) -> bool:
        slot, again_at = self._asked.get((tick.job, tick.host), (None, now))
        return slot != tick.slot or now >= again_at

    async def grant(self, delivery: Delivery) -> None:
        """Turn a wish into ticks and record it. Raises BusUnavailable or LogUnavailable: then it comes again."""
        try:
            trigger = decode_trigger(delivery.subject, delivery.body)
            hosts = self._wanted(trigger)
        except MessageRefused as error:
            log.warning("A trigger is refused: %s", error)
            await self.rejections.record(delivery.subject, error.message, delivery.body)
            await delivery.reject(error.message)
            return
        wish = f"{delivery.stream_sequence}:{delivery.stored_at.isoformat()}"
        slot = trigger_slot(delivery.stored_at)
        for host in hosts:
            await self._grant_host(host, trigger, slot, wish)
        await delivery.done()

    async def _grant_host(self, host: HostName, trigger: Trigger, slot: datetime, wish: str) -> None:
        stream = host_stream(host)
        wished = BackupRequested(job=trigger.job, slot=slot, by=trigger.by, dry_run=trigger.dry_run)
        appended = await self.events.append(stream, None, [NewEvent(_wish_id("requested", host, wish), wished)])
        reason = await self._refusal(host, trigger, slot, heard_before=appended.duplicate)
        if reason:
            refused = RequestRefused(job=trigger.job, slot=slot, reason=reason)
            await self.events.append(stream, None, [NewEvent(_wish_id("refused", host, wish), refused)])

    async def _refusal(self, host: HostName, trigger: Trigger, slot: datetime, *, heard_before: bool) -> str:
        """Publish the tick of a wish; why it is not granted, or nothing. Nobody may wait for an answer in vain."""
        known = self.state.hosts.get(host, HostState())
        if not heard_before and not trigger.dry_run and known.is_settled(trigger.job, slot, self.now or slot):
            return DONE_ALREADY
        settings = self.settings.host(host)
        store = settings.store if settings else self.settings.store
        tick = Tick(trigger.job, store, host, slot, trigger.dry_run)
        accepted = await self.bus.publish_tick(tick)
        if accepted is Accepted.ALREADY_RUNNING and trigger.job is Job.SNAPSHOT and known.offline_since is not None:
            # The host was offline and its tick waits for the next try: a person who asks wants it tried now.
            await self.bus.withdraw_tick(tick)
            accepted = await self.bus.publish_tick(tick)
        self.counts[accepted] += 1
        if accepted is Accepted.ALREADY_RUNNING:
            return "already pending or running"
        if accepted is Accepted.DUPLICATE and not heard_before and await self._was_done(host, trigger.job, slot):
            return DONE_ALREADY
        return ""

    async def _was_done(self, host: HostName, job: Job, slot: datetime) -> bool:
        state = HostState()
        for recorded in await self.events.read_stream(host_stream(host)):
            evolve_host(state, recorded)
        return state.is_settled(job, slot, self.now or slot)

    def _wanted(self, trigger: Trigger) -> list[HostName]:
        if trigger.hosts is None:
            return [host.name for host in self.settings.hosts]
        known = {str(host.name): host.name for host in self.settings.hosts}
        unknown = [name for name in trigger.hosts if name not in known]
        if unknown:
            raise MessageRefused(f"There is no host {unknown[0]!r} in the settings.")
        return [known[name] for name in dict.fromkeys(trigger.hosts)]


def _wish_id(what: str, host: HostName, wish: str) -> UUID:
    return derived_id(what, host, wish)
