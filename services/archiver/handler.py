"""What a tick of the archive job makes this worker do: pack `current`, and copy it when its month has no golden yet."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from services.archiver import steps
from services.archiver.archive import Work, make_archive
from services.archiver.due import Due, foreseen, what_is_due
from services.archiver.failure import as_failure
from services.archiver.golden import make_golden
from services.archiver.pack import Compression
from services.archiver.progress import Progress
from services.archiver.recovery import recovered
from services.archiver.space import archive_need, check_room, golden_need
from shared.adapters.clock import SystemClock
from shared.adapters.filesystem import FileLock, open_directory, shared_lock
from shared.adapters.journal import about
from shared.adapters.markers import StoredSnapshot
from shared.adapters.milestones import Milestone, reached
from shared.adapters.restore_points import archives, golden_copies, remove_unfinished
from shared.adapters.store import HostFolder, Store
from shared.adapters.threads import in_thread
from shared.config import HostSettings, Settings
from shared.domain.errors import BackupManagerError, CalledOff, RunFailed, StoreRefused
from shared.domain.events import (
    AnyEvent,
    ArchiveAbandoned,
    ArchiveCancelled,
    ArchiveFailed,
    ArchiveStarted,
    DryRunCompleted,
    GoldenFailed,
    Job,
    NewEvent,
    SlotSkipped,
)
from shared.domain.host_state import HostState
from shared.domain.ids import derived_id, event_id, run_id
from shared.domain.messages import Tick
from shared.domain.names import HostName, host_stream
from shared.domain.schedule import newest_slot
from shared.runtime.acceptance import accepted_host, refuse_elsewhere
from shared.runtime.cancel import Cancels, CancelWish
from shared.runtime.host_log import HostLog
from shared.runtime.worker import Disposition, Done, RetryIn

LOG_RETRY_SECONDS: Final = 30.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Assignment:
    """A slot of a host, whose lock this worker holds, and what the log says of the host."""

    host: HostSettings
    folder: HostFolder
    lock: FileLock
    slot: datetime
    state: HostState

    @property
    def attempt(self) -> int:
        """Which try of the slot this is."""
        return self.state.attempts_at(self.slot, Job.ARCHIVE) + 1


@dataclass(slots=True)
class Archiver:
    """Makes the archives and golden copies of one store's hosts."""

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
        if tick.dry_run:
            return await self._dry_run(host, tick)
        try:
            with self.store.folder(tick.host) as folder, folder.locked(Job.ARCHIVE) as lock:
                return await self._handle_on_drive(host, folder, lock, tick)
        except StoreRefused as error:
            log.error("%s", error)
            return await self._without_drive(tick, error)

    async def _without_drive(self, tick: Tick, error: StoreRefused) -> Disposition:
        """The drive is not there, so neither is the spool: the log hears of it directly, unless the slot is done."""
        state = HostState()
        await self.log.refresh(tick.host, state)
        if not state.is_settled(Job.ARCHIVE, tick.slot, self.clock.now()):
            fact = ArchiveFailed(
                run=run_id(self.clock.unix_ms(), secrets.randbits(58)),
                slot=tick.slot,
                code="store",
                message=error.message,
                hint=error.hint,
            )
            identity = _slot_id("no-drive", tick.host, tick.slot)
            await self.log.events.append(host_stream(tick.host), None, [NewEvent(identity, fact)])
        return Done()

    async def _handle_on_drive(self, host: HostSettings, folder: HostFolder, lock: FileLock, tick: Tick) -> Disposition:
        state = await self._recover(host.name, folder)
        if state is None:
            return RetryIn(LOG_RETRY_SECONDS)  # what is due is decided by the log; nothing is lost by waiting for it
        now = self.clock.now()
        slot = max(tick.slot, newest_slot(self.settings.tar_interval_hours, now))
        if slot != tick.slot and not state.is_settled(Job.ARCHIVE, tick.slot, now):
            await self._skip(host.name, tick.slot, f"superseded by the slot of {slot:%Y-%m-%d %H:%M} UTC")
        if state.is_settled(Job.ARCHIVE, slot, now):
            return Done()
        if by := await self.cancels.called_off_by(host.name, slot):
            await self._skip(host.name, slot, f"called off by {by}")
            return Done()
        due = what_is_due(folder, state, slot, self.settings)
        if isinstance(due, str) or due.nothing:
            await self._skip(host.name, slot, due if isinstance(due, str) else due.why_not)
            return Done()
        return await self._run(Assignment(host, folder, lock, slot, state), due)

    async def _dry_run(self, host: HostSettings, tick: Tick) -> Disposition:
        """Say what would be made, and whether it would fit. Nothing is written into the host's folder."""
        state = await self.log.read(host.name)
        if state is None:
            return RetryIn(LOG_RETRY_SECONDS)
        try:
            with self.store.existing_folder(host.name) as folder:
                due = what_is_due(folder, state, tick.slot, self.settings)
            ok, findings = foreseen(due, state, host, self.store)
        except (OSError, StoreRefused) as error:
            ok, findings = False, (f"The host's folder cannot be read: {error}",)
        run = run_id(self.clock.unix_ms(), secrets.randbits(58))
        fact = DryRunCompleted(run=run, slot=tick.slot, job=Job.ARCHIVE, ok=ok, findings=findings)
        identity = _slot_id("archive-dry-run", host.name, tick.slot)
        await self.log.events.append(host_stream(host.name), None, [NewEvent(identity, fact)])
        return Done()

    async def _recover(self, host: HostName, folder: HostFolder) -> HostState | None:
        """The host's state after recovery, or None while the log is away. The caller holds the lock."""
        if removed := await in_thread(remove_unfinished, folder):
            log.info("Removed %d unfinished archives and copies of dead runs.", removed)
        state = await self.log.read(host)
        if state is None:
            return None
        refuse_elsewhere(host, state, self.store)
        facts = recovered(state, archives(folder), golden_copies(folder), self.store.identity.name)
        if facts:
            await self.log.record(host, facts)
            state = await self.log.read(host)
        return state

    async def _run(self, given: Assignment, due: Due) -> Disposition:
        run, name = run_id(self.clock.unix_ms(), secrets.randbits(58)), given.host.name
        claim = ArchiveStarted(
            run=run,
            slot=given.slot,
            store=self.store.identity.name,
            worker=self.worker,
            snapshot=due.snapshot.name,
            attempt=given.attempt,
            golden=due.golden,
        )
        with (
            about(run=str(run), slot=f"{given.slot:%Y-%m-%d %H:%M}"),
            self.cancels.wish(name, given.slot) as wish,
            _being_read(given.folder, due.snapshot) as tree,
        ):
            if not await self.log.claim(name, given.state, NewEvent(event_id(run, steps.STARTED), claim)):
                return RetryIn(1)
            reached(Milestone.ARCHIVE_CLAIMED)
            work = Work(run, given.slot, self.store, given.folder, given.lock, due.snapshot, tree)
            return await self._work(given, work, due, wish)

    async def _work(self, given: Assignment, work: Work, due: Due, wish: CancelWish) -> Disposition:
        name = given.host.name
        try:
            return await wish.unless_asked(self._make(given, work, due))
        except CalledOff as error:
            log.warning("Called off by %s; what was written is removed.", error.by)
            cancelled = ArchiveCancelled(run=work.run, slot=work.slot, by=error.by)
            await self._record(name, work.run, steps.CANCELLED, cancelled)
            return Done()
        except asyncio.CancelledError:
            abandoned = ArchiveAbandoned(run=work.run, slot=work.slot)
            await asyncio.shield(self._record(name, work.run, steps.ABANDONED, abandoned))
            raise

    async def _make(self, given: Assignment, work: Work, due: Due) -> Disposition:
        """The archive and the golden copy side by side; neither is lost because the other failed."""
        async with asyncio.TaskGroup() as tasks:
            if due.golden is not None:
                tasks.create_task(self._golden(given.host.name, work, due.golden))
            if due.why_not == "":
                return await self._archive(given, work)
        await self._skip(given.host.name, work.slot, due.why_not)
        return Done()

    async def _golden(self, host: HostName, work: Work, name: str) -> None:
        try:
            need = golden_need(work.snapshot.marker.event)
            check_room(self.store, need)
            made = await make_golden(work, name, self.clock)
        except (BackupManagerError, OSError) as error:
            failed = as_failure(error)
            log.error("The golden copy %s failed: %s", name, failed)
            fact = GoldenFailed(
                run=work.run,
                slot=work.slot,
                golden=name,
                code=failed.code,
                message=failed.message,
                hint=failed.hint,
            )
            await self._record(host, work.run, steps.GOLDEN_FAILED, fact)
        else:
            log.info("Golden copy %s of %s: %s files.", name, made.snapshot, f"{made.files:,}")
            await self._record(host, work.run, steps.GOLDEN_COMPLETED, made)
            reached(Milestone.GOLDEN_TOLD)

    async def _archive(self, given: Assignment, work: Work) -> Disposition:
        settings, host, state = self.settings, given.host, given.state
        progress = Progress(self.log, self.clock, host.name, work.run, work.snapshot.marker.event)
        try:
            check_room(self.store, archive_need(state, work.snapshot.marker.event), host, state)
            compression = Compression(settings.tar_format, settings.tar_compression_level)
            made = await make_archive(work, compression, self.clock, progress.tell)
        except (BackupManagerError, OSError) as error:
            return await self._failed(host.name, work, given.attempt, as_failure(error))
        await self._record(host.name, work.run, steps.COMPLETED, made)
        reached(Milestone.ARCHIVE_TOLD)
        log.info("Archive %s: %s entries, %s bytes.", made.archive, f"{made.members:,}", f"{made.size_bytes:,}")
        return Done()

    async def _failed(self, host: HostName, work: Work, attempt: int, error: RunFailed) -> Disposition:
        final = not error.transient or attempt >= self.settings.timing.max_attempts
        log.error("Attempt %d failed: %s", attempt, error)
        fact = ArchiveFailed(
            run=work.run,
            slot=work.slot,
            code=error.code,
            message=error.message,
            hint=error.hint,
            attempt=attempt,
            final=final,
        )
        await self._record(host, work.run, steps.FAILED, fact)
        return Done() if final else RetryIn(self.settings.timing.retry_seconds * attempt)

    async def _skip(self, host: HostName, slot: datetime, reason: str) -> None:
        log.info("Nothing is packed: %s.", reason)
        fact = SlotSkipped(job=Job.ARCHIVE, slot=slot, reason=reason)
        await self.log.record(host, [NewEvent(_slot_id("archive-skipped", host, slot), fact)])

    async def _record(self, host: HostName, run: UUID, step: int, event: AnyEvent) -> None:
        await self.log.record(host, [NewEvent(event_id(run, step), event)])


@contextmanager
def _being_read(folder: HostFolder, snapshot: StoredSnapshot) -> Iterator[int]:
    """The snapshot's directory, marked as being read. Raises RunFailed when it is being removed."""
    with open_directory("hourly", at=folder.descriptor) as hourly, open_directory(snapshot.name, at=hourly) as tree:
        try:
            with shared_lock(tree):
                yield tree
        except BlockingIOError as error:
            raise RunFailed(f"Snapshot {snapshot.name} is being removed.", code="in_use", transient=True) from error


def _slot_id(what: str, host: HostName, slot: datetime) -> UUID:
    return derived_id(what, host, slot.isoformat())
