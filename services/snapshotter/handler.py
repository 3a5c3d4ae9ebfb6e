"""What a tick of the snapshot job makes this worker do."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from services.snapshotter import dry_run, steps
from services.snapshotter.admission import why_refused
from services.snapshotter.connection import Connection, connected
from services.snapshotter.failure import as_failure
from services.snapshotter.findings import findings
from services.snapshotter.output import Progress
from services.snapshotter.recovery import recovered
from services.snapshotter.rsync import Ability
from services.snapshotter.run import RECENT, Run, before, choose_base, take_snapshot
from services.snapshotter.tidying import tidy
from shared.adapters.clock import SystemClock
from shared.adapters.filesystem import FileLock
from shared.adapters.journal import about
from shared.adapters.milestones import Milestone, reached
from shared.adapters.store import HostFolder, Store
from shared.config import HostSettings, Settings
from shared.domain.errors import (
    BackupManagerError,
    HostUnreachable,
    LogConflict,
    LogUnavailable,
    RunFailed,
    StoreRefused,
)
from shared.domain.events import (
    DryRunCompleted,
    HostFoundOffline,
    Job,
    NewEvent,
    Quality,
    SlotSkipped,
    SnapshotAbandoned,
    SnapshotCancelled,
    SnapshotCompleted,
    SnapshotFailed,
    SnapshotProgressed,
    SnapshotStarted,
)
from shared.domain.host_state import CLOCKS_DIFFER, HostState
from shared.domain.ids import MAX_STEP, derived_id, event_id, run_id
from shared.domain.messages import Tick
from shared.domain.names import HostName, host_stream, snapshot_name
from shared.domain.room import Room
from shared.domain.schedule import newest_slot, next_slot
from shared.runtime.acceptance import accepted_host, refuse_elsewhere
from shared.runtime.cancel import Cancels
from shared.runtime.host_log import HostLog
from shared.runtime.worker import Disposition, Done, RetryIn

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Snapshotter:
    """Takes the snapshots of one store's hosts."""

    settings: Settings
    store: Store
    log: HostLog
    cancels: Cancels
    ability: Ability
    clock: SystemClock
    worker: str
    _progress_steps: dict[UUID, int] = field(default_factory=dict)
    _turns: dict[HostName, asyncio.Lock] = field(default_factory=dict)

    async def handle(self, tick: Tick) -> Disposition:
        """Work one tick off. Raises HostBusy when another process has the host, MessageRefused for a slot to come."""
        host = accepted_host(tick, self.settings, self.store, self.clock)
        if host is None:
            return Done()
        if tick.dry_run:
            return await self._dry_run(host, tick)
        try:
            return await self._handle_on_drive(host, tick)
        except StoreRefused as error:
            return await self._without_drive(host, tick, error)

    async def _handle_on_drive(self, host: HostSettings, tick: Tick) -> Disposition:
        async with self._turn(tick.host):
            return await self._handle_locked(host, tick)

    def _turn(self, host: HostName) -> asyncio.Lock:
        """Recovery at the start and the first tick are both ours: one waits for the other, as for no stranger."""
        return self._turns.setdefault(host, asyncio.Lock())

    async def _handle_locked(self, host: HostSettings, tick: Tick) -> Disposition:
        with self.store.folder(tick.host) as folder, folder.locked(Job.SNAPSHOT) as lock:
            state = await self._recover(tick.host, folder)
            now = self.clock.now()
            slot = max(tick.slot, newest_slot(host.snapshot_interval_hours, now))
            if slot != tick.slot and state and not state.is_settled(Job.SNAPSHOT, tick.slot, now):
                reason = f"superseded by the slot of {slot:%Y-%m-%d %H:%M} UTC"
                await self._skip(host.name, tick.slot, reason)
            if (state and state.is_settled(Job.SNAPSHOT, slot, now)) or folder.has_snapshot(snapshot_name(slot)):
                log.info("The slot %s is done already.", snapshot_name(slot))
                return Done()
            if by := await self.cancels.called_off_by(host.name, slot):
                await self._skip(host.name, slot, f"called off by {by}")
                return Done()
            return await self._run(host, folder, lock, slot, state)

    async def recover(self, host: HostName) -> None:
        """Bring the drive and the log together and remove what dead runs left. Raises HostBusy."""
        async with self._turn(host):
            with self.store.folder(host) as folder, folder.locked(Job.SNAPSHOT):
                await self._recover(host, folder)

    async def _recover(self, host: HostName, folder: HostFolder) -> HostState | None:
        """The host's state after recovery, or None while the log is away. The caller holds the lock."""
        await tidy(host, folder, self.clock.now() + CLOCKS_DIFFER)
        state = await self.log.read(host)
        if state is None:
            return None
        refuse_elsewhere(host, state, self.store)
        facts = recovered(state, folder.snapshots(), self.store.identity.name)
        if facts:
            await self.log.record(host, facts)
            state = await self.log.read(host)
        return state

    async def _run(
        self, host: HostSettings, folder: HostFolder, lock: FileLock, slot: datetime, state: HostState | None
    ) -> Disposition:
        run = run_id(self.clock.unix_ms(), secrets.randbits(58))
        attempt = (state.attempts_at(slot) if state else 0) + 1
        with about(run=str(run), slot=snapshot_name(slot)), self.cancels.wish(host.name, slot) as wish:
            async with AsyncExitStack() as stack:
                try:
                    connection = await stack.enter_async_context(connected(host, self.settings))
                except HostUnreachable as error:
                    return await self._offline(host, slot, error)
                except RunFailed as error:
                    await self._claim(host.name, state, run, slot, attempt, base=None)
                    return await self._failed(host, run, slot, attempt, error)
                snapshots = before(folder.snapshots(), slot)
                base = choose_base(snapshots)
                if not await self._claim(host.name, state, run, slot, attempt, base=base.name if base else None):
                    return RetryIn(1)
                reached(Milestone.SNAPSHOT_CLAIMED)
                if wish.asked.is_set():
                    cancelled = SnapshotCancelled(run=run, slot=slot, by=wish.by)
                    await self._record(host.name, steps.CANCELLED, cancelled)
                    return Done()
                # From here on the transfer is protected: it completes, and a cancel holds for what comes after it.
                recent = [snapshot for snapshot in snapshots if snapshot.quality is Quality.COMPLETE][-RECENT:]
                work = Run(run, slot, self.store, folder, lock, base, recent)
                used_bytes = state.used_bytes() if state else None
                return await self._pull(host, work, connection, attempt, used_bytes)

    async def _pull(
        self, host: HostSettings, run: Run, connection: Connection, attempt: int, used_bytes: int | None
    ) -> Disposition:
        async def report(files: int, progress: Progress) -> None:
            await self._progress(host.name, run.id, files, progress)

        try:
            if refused := await why_refused(run, connection, self.ability, used_bytes):
                return await self._failed(host, run.id, run.slot, attempt, refused)
            completed, compared = await take_snapshot(run, connection, self.ability, self.clock, report)
        except asyncio.CancelledError:
            await asyncio.shield(self._record(host.name, steps.ABANDONED, SnapshotAbandoned(run=run.id, slot=run.slot)))
            raise
        except (BackupManagerError, OSError) as error:
            return await self._failed(host, run.id, run.slot, attempt, as_failure(error, self._room()))
        found = findings(completed, compared.tally)
        done = NewEvent(event_id(run.id, steps.COMPLETED), completed)
        await self.log.record(host.name, [done, *found])
        reached(Milestone.SNAPSHOT_TOLD)
        _tell(completed)
        return Done()

    def _room(self) -> Room | None:
        try:
            return self.store.room()
        except OSError:  # the drive is gone, which is what the run has failed of
            return None

    async def _claim(
        self, host: HostName, state: HostState | None, run: UUID, slot: datetime, attempt: int, *, base: str | None
    ) -> bool:
        started = SnapshotStarted(
            run=run, slot=slot, store=self.store.identity.name, worker=self.worker, attempt=attempt, base=base
        )
        return await self.log.claim(host, state, NewEvent(event_id(run, steps.STARTED), started))

    async def _without_drive(self, host: HostSettings, tick: Tick, error: StoreRefused) -> Disposition:
        """The drive is not there, so neither is the spool: the log hears of it directly, unless the slot is done."""
        state = HostState()
        await self.log.refresh(host.name, state)
        if state.is_settled(Job.SNAPSHOT, tick.slot, self.clock.now()):
            return Done()
        run = run_id(self.clock.unix_ms(), secrets.randbits(58))
        name = self.store.identity.name
        started = SnapshotStarted(run=run, slot=tick.slot, store=name, worker=self.worker)
        failed = SnapshotFailed(run=run, slot=tick.slot, code="store", message=error.message, hint=error.hint)
        log.error("%s", error)
        facts = [NewEvent(event_id(run, steps.STARTED), started), NewEvent(event_id(run, steps.FAILED), failed)]
        try:
            await self.log.append(host.name, state, facts)
        except LogConflict:
            return RetryIn(1)  # somebody else was at it, and may have settled the slot
        return Done()

    async def _failed(
        self, host: HostSettings, run: UUID, slot: datetime, attempt: int, error: BackupManagerError
    ) -> Disposition:
        transient = isinstance(error, RunFailed) and error.transient
        final = not transient or attempt >= self.settings.timing.max_attempts
        event = SnapshotFailed(
            run=run,
            slot=slot,
            code=error.code if isinstance(error, RunFailed) else type(error).__name__,
            message=error.message,
            hint=error.hint,
            attempt=attempt,
            final=final,
        )
        log.error("Attempt %d failed: %s", attempt, error)
        await self._record(host.name, steps.FAILED, event)
        return Done() if final else RetryIn(self.settings.timing.retry_seconds * attempt)

    async def _offline(self, host: HostSettings, slot: datetime, error: HostUnreachable) -> Disposition:
        now = self.clock.now()
        until_next = (next_slot(host.snapshot_interval_hours, now) - now) / timedelta(seconds=1)
        seconds = max(1.0, min(self.settings.timing.offline_retry_seconds, until_next))
        log.info("%s Trying again in %d s.", error.message, seconds)
        fact = HostFoundOffline(slot=slot, reason=error.message)
        await self.log.record(host.name, [NewEvent(_slot_id("offline", host.name, slot), fact)])
        return RetryIn(seconds)

    async def _skip(self, host: HostName, slot: datetime, reason: str) -> None:
        fact = SlotSkipped(job=Job.SNAPSHOT, slot=slot, reason=reason)
        await self.log.record(host, [NewEvent(_slot_id("skipped", host, slot), fact)])

    async def _dry_run(self, host: HostSettings, tick: Tick) -> Disposition:
        run = run_id(self.clock.unix_ms(), secrets.randbits(58))
        used_bytes = await self._used_bytes(host.name)
        ok, sentences = await dry_run.try_host(host, self.settings, self.ability, used_bytes=used_bytes)
        fact = DryRunCompleted(run=run, slot=tick.slot, job=tick.job, ok=ok, findings=tuple(sentences))
        stream = host_stream(host.name)
        # Straight to the log: a dry run writes nothing into the host's folder, so not into its spool either.
        await self.log.events.append(stream, None, [NewEvent(_slot_id("dry-run", host.name, tick.slot), fact)])
        return Done()

    async def _used_bytes(self, host: HostName) -> int | None:
        """What the host takes of the drive by the log alone: its spool is not looked into. None: the log is away."""
        state = HostState()
        try:
            await self.log.refresh(host, state)
        except LogUnavailable:
            return None
        return state.used_bytes()

    async def _progress(self, host: HostName, run: UUID, files: int, progress: Progress) -> None:
        step = self._progress_steps.get(run, steps.FIRST_PROGRESS)
        if step > MAX_STEP or self.log.outbox.log_is_away:
            return  # nobody can look at it now, and later it is no longer news
        self._progress_steps = {run: step + 1}
        fact = SnapshotProgressed(
            run=run,
            files=files,
            transferred_bytes=progress.transferred_bytes,
            bytes_per_second=progress.bytes_per_second,
            percent=progress.percent,
            eta_seconds=progress.eta_seconds,
        )
        await self.log.record(host, [NewEvent(event_id(run, step), fact)])

    async def _record(
        self, host: HostName, step: int, event: SnapshotFailed | SnapshotAbandoned | SnapshotCancelled
    ) -> None:
        await self.log.record(host, [NewEvent(event_id(event.run, step), event)])


def _slot_id(what: str, host: HostName, slot: datetime) -> UUID:
    return derived_id(what, host, slot.isoformat())


def _tell(completed: SnapshotCompleted) -> None:
    log.info(
        "Snapshot %s is %s: %s files, %s bytes moved, %s shared.",
        completed.snapshot,
        completed.quality,
        f"{completed.files:,}",
        f"{completed.transferred_bytes:,}",
        f"{completed.shared_bytes:,}",
    )
