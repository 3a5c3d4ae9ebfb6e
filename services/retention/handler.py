"""What a tick of the retention job makes this worker do: plan, order, move to the trash, purge what lay long enough.

Nothing is deleted without the log: every removal is ordered there first, with the version that the plan was made on,
so that whatever else happens to the host makes this worker decide again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from services.retention import steps
from services.retention.dry_run import foreseen, in_sentences
from services.retention.facts import Drive, look_at_drive
from services.retention.recovery import recovered
from services.retention.run import Thinning
from services.retention.thinning import thin_out
from shared.adapters.clock import SystemClock
from shared.adapters.filesystem import FileLock
from shared.adapters.journal import about
from shared.adapters.milestones import Milestone, reached
from shared.adapters.store import HostFolder, Store
from shared.adapters.threads import in_thread
from shared.config import HostSettings, Settings
from shared.domain.errors import (
    BackupManagerError,
    CalledOff,
    LogConflict,
    LogUnavailable,
    StoreRefused,
)
from shared.domain.events import (
    AnyEvent,
    DryRunCompleted,
    Job,
    NewEvent,
    RetentionAbandoned,
    RetentionCancelled,
    RetentionFailed,
    RetentionStarted,
    SlotSkipped,
)
from shared.domain.host_state import HostState
from shared.domain.ids import derived_id, event_id, run_id
from shared.domain.inventory import points_of
from shared.domain.messages import Tick
from shared.domain.names import SETTINGS_STREAM, HostName, host_stream
from shared.domain.schedule import newest_slot
from shared.runtime.acceptance import accepted_host, refuse_elsewhere
from shared.runtime.cancel import Cancels, CancelWish
from shared.runtime.host_log import HostLog
from shared.runtime.worker import Disposition, Done, RetryIn

LOG_RETRY_SECONDS: Final = 30.0
SETTLE_SECONDS: Final = 2.0
"""How long a snapshot that has just got its name may take until the log has heard of it."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Retention:
    """Thins out the restore points of one store's hosts."""

    settings: Settings
    store: Store
    log: HostLog
    cancels: Cancels
    clock: SystemClock
    worker: str

    async def handle(self, tick: Tick) -> Disposition:
        """Work one tick off. Raises HostBusy when another process has the host, MessageRefused for a slot to come."""
        host = accepted_host(tick, self.settings, self.store, self.clock)
        if host is None:
            return Done()
        try:
            if tick.dry_run:
                return await self._dry_run(tick)
            with self.store.folder(tick.host) as folder, folder.locked(Job.RETENTION) as lock:
                return await self._handle_on_drive(host, folder, lock, tick)
        except StoreRefused as error:
            log.error("%s Nothing is removed.", error)
            return RetryIn(self.settings.timing.retry_seconds)
        except LogUnavailable as error:
            log.warning("%s Nothing is removed without it.", error.message)
            return RetryIn(LOG_RETRY_SECONDS)

    async def _handle_on_drive(self, host: HostSettings, folder: HostFolder, lock: FileLock, tick: Tick) -> Disposition:
        drive = await in_thread(look_at_drive, folder, finish_moves=True)
        state = await self._recover(host.name, drive)
        if state is None:
            return RetryIn(LOG_RETRY_SECONDS)
        now = self.clock.now()
        slot = max(tick.slot, newest_slot(self.settings.tar_interval_hours, now))
        if slot != tick.slot and not state.is_settled(Job.RETENTION, tick.slot, now):
            await self._skip(host.name, tick.slot, f"superseded by the slot of {slot:%Y-%m-%d %H:%M} UTC")
        if state.is_settled(Job.RETENTION, slot, now):
            return Done()
        if by := await self.cancels.called_off_by(host.name, slot):
            await self._skip(host.name, slot, f"called off by {by}")
            return Done()
        run = run_id(self.clock.unix_ms(), secrets.randbits(58))
        thinning = Thinning(
            run, host.name, slot, self.settings, self.store, folder, lock, self.log, self.clock, state, drive
        )
        return await self._run(thinning)

    async def _dry_run(self, tick: Tick) -> Disposition:
        """Say what would be removed. Nothing is written into the host's folder."""
        state = await self.log.read(tick.host)
        if state is None:
            return RetryIn(LOG_RETRY_SECONDS)
        recorded, now = await self.log.events.read_stream(SETTINGS_STREAM), self.clock.now()
        try:
            made = await foreseen(tick.host, state, self.store, self.settings, recorded=recorded, now=now)
            ok, words = not made.refused, in_sentences(made)
        except (OSError, StoreRefused) as error:
            ok, words = False, (f"The host's folder cannot be read: {error}",)
        run = run_id(self.clock.unix_ms(), secrets.randbits(58))
        fact = DryRunCompleted(run=run, slot=tick.slot, job=Job.RETENTION, ok=ok, findings=words)
        identity = derived_id("retention-dry-run", tick.host, tick.slot.isoformat())
        await self.log.events.append(host_stream(tick.host), None, [NewEvent(identity, fact)])
        return Done()

    async def _recover(self, host: HostName, drive: Drive) -> HostState | None:
        """The host's state after recovery, or None while the log is away. The caller holds the lock."""
        state = await self.log.read(host)
        if state is None:
            return None
        refuse_elsewhere(host, state, self.store)
        if facts := recovered(host, state, drive):
            await self.log.record(host, facts)
            await self.log.refresh(host, state)
        if drive.points - {point.key for point in points_of(state)}:
            await self.clock.sleep(SETTLE_SECONDS)
            await self.log.refresh(host, state)
        return state

    async def _run(self, thinning: Thinning) -> Disposition:
        name, run = thinning.host, thinning.run
        policy = self.settings.policy().version()
        claim = RetentionStarted(
            run=run,
            slot=thinning.slot,
            store=self.store.identity.name,
            worker=self.worker,
            policy=policy,
            attempt=thinning.attempt,
        )
        with (
            about(run=str(run), slot=f"{thinning.slot:%Y-%m-%d %H:%M}"),
            self.cancels.wish(name, thinning.slot) as wish,
        ):
            try:
                await self.log.append(name, thinning.state, [NewEvent(event_id(run, steps.STARTED), claim)])
            except LogConflict as error:
                log.info("Something else happened first: %s", error.message)
                return RetryIn(1)
            reached(Milestone.RETENTION_CLAIMED)
            await self.log.refresh(name, thinning.state)
            return await self._work(thinning, wish)

    async def _work(self, thinning: Thinning, wish: CancelWish) -> Disposition:
        name, run, slot = thinning.host, thinning.run, thinning.slot
        try:
            await wish.unless_asked(thin_out(thinning))
        except CalledOff as error:
            await self._record(name, run, steps.CANCELLED, RetentionCancelled(run=run, slot=slot, by=error.by))
        except asyncio.CancelledError:
            abandoned = RetentionAbandoned(run=run, slot=slot)
            await asyncio.shield(self._record(name, run, steps.ABANDONED, abandoned))
            raise
        except OSError as error:
            return await self._failed(thinning, f"The drive failed: {error}.", "Check the drive: dmesg tells why.")
        except LogUnavailable:
            raise
        except BackupManagerError as error:
            return await self._failed(thinning, error.message, error.hint)
        return Done()

    async def _failed(self, thinning: Thinning, message: str, hint: str) -> Disposition:
        final = thinning.attempt >= self.settings.timing.max_attempts
        log.error("Attempt %d failed: %s", thinning.attempt, message)
        fact = RetentionFailed(
            run=thinning.run,
            slot=thinning.slot,
            code="drive",
            message=message,
            hint=hint,
            attempt=thinning.attempt,
            final=final,
        )
        await self._record(thinning.host, thinning.run, steps.FAILED, fact)
        return Done() if final else RetryIn(self.settings.timing.retry_seconds * thinning.attempt)

    async def _skip(self, host: HostName, slot: datetime, reason: str) -> None:
        fact = SlotSkipped(job=Job.RETENTION, slot=slot, reason=reason)
        identity = derived_id("retention-skipped", host, slot.isoformat())
        await self.log.record(host, [NewEvent(identity, fact)])

    async def _record(self, host: HostName, run: UUID, step: int, event: AnyEvent) -> None:
        await self.log.record(host, [NewEvent(event_id(run, step), event)])
