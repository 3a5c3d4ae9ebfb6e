"""What a tick of the restore job makes this worker do: restore what waits for the host, one request after the other."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from services.restorer import steps
from services.restorer.failure import as_failure
from services.restorer.progress import Progress
from services.restorer.selection import being_read, chosen, counted
from services.restorer.to_folder import restore_to_folder
from services.restorer.to_host import restore_to_host
from services.restorer.transfer import keeps_acls
from services.restorer.watch import Watch, watched
from services.restorer.work import Work
from shared.adapters.clock import SystemClock
from shared.adapters.filesystem import FileLock
from shared.adapters.journal import about
from shared.adapters.milestones import Milestone, reached
from shared.adapters.store import HostFolder, Store
from shared.config import HostSettings, Settings
from shared.domain.errors import BackupManagerError, CalledOff, RunFailed
from shared.domain.events import (
    AnyEvent,
    Job,
    NewEvent,
    RestoreAbandoned,
    RestoreCancelled,
    RestoreCompleted,
    RestoreFailed,
    RestoreStarted,
)
from shared.domain.host_state import HostState
from shared.domain.ids import event_id, run_id
from shared.domain.messages import Tick
from shared.domain.names import HostName
from shared.domain.restore_request import TO_FOLDER, decode_path
from shared.domain.restore_state import RestoreState, open_restores
from shared.runtime.acceptance import accepted_host, refuse_elsewhere
from shared.runtime.cancel import Cancels
from shared.runtime.host_log import HostLog
from shared.runtime.restores import cancel_id
from shared.runtime.worker import Disposition, Done, RetryIn

LOG_RETRY_SECONDS: Final = 30.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Assignment:
    """A request of a host, whose lock this worker holds. `left` is what lies where of a try that did not end well."""

    host: HostSettings
    folder: HostFolder
    lock: FileLock
    wish: RestoreState
    run: UUID
    attempt: int
    left: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Restorer:
    """Restores what one store has of its hosts."""

    settings: Settings
    store: Store
    log: HostLog
    cancels: Cancels
    clock: SystemClock
    worker: str

    async def handle(self, tick: Tick) -> Disposition:
        """Work one tick off. Raises HostBusy when another process has the host, MessageRefused for a slot to come."""
        host = accepted_host(tick, self.settings, self.store, self.clock)
        if host is None or tick.dry_run:
            return Done()
        with self.store.folder(tick.host) as folder, folder.locked(Job.RESTORE) as lock:
            while True:
                state = await self._settled_state(host.name)
                if state is None:
                    return RetryIn(LOG_RETRY_SECONDS)  # it is the log that says what is to be restored
                refuse_elsewhere(host.name, state, self.store)
                waiting = open_restores(state.restores)
                if not waiting:
                    return Done()
                done = await self._one(host, folder, lock, state, waiting[0])
                if isinstance(done, RetryIn):
                    return done

    async def _settled_state(self, host: HostName) -> HostState | None:
        """What is known of the host; no restore is under way, because the caller holds the lock."""
        state = await self.log.read(host)
        dead = [one for one in state.restores.values() if one.outcome == "running"] if state else []
        if not dead:
            return state
        facts = [RestoreAbandoned(run=one.runs[-1], slot=one.slot, restore=one.restore) for one in dead]
        await self.log.record(host, [NewEvent(event_id(fact.run, steps.ABANDONED), fact) for fact in facts])
        return await self.log.read(host)

    async def _one(
        self, host: HostSettings, folder: HostFolder, lock: FileLock, state: HostState, wish: RestoreState
    ) -> Disposition:
        if by := await self.cancels.called_off_by(host.name, wish.slot, str(wish.restore)):
            fact = RestoreCancelled(slot=wish.slot, restore=wish.restore, by=by)
            await self.log.record(host.name, [NewEvent(cancel_id(wish.restore), fact)])
            return Done()
        run = run_id(self.clock.unix_ms(), secrets.randbits(58))
        given = Assignment(host, folder, lock, wish, run, len(wish.runs) + 1)
        claim = RestoreStarted(
            run=run,
            slot=wish.slot,
            restore=wish.restore,
            store=self.store.identity.name,
            worker=self.worker,
            attempt=given.attempt,
        )
        with about(run=str(run), restore=str(wish.restore)):
            if not await self.log.claim(host.name, state, NewEvent(event_id(run, steps.STARTED), claim)):
                return RetryIn(1)
            reached(Milestone.RESTORE_CLAIMED)
            return await self._run(given)

    async def _run(self, given: Assignment) -> Disposition:
        name, wish = given.host.name, given.wish
        try:
            with self.cancels.wish(name, wish.slot, str(wish.restore)) as cancel:
                completed = await cancel.unless_asked(self._restore(given))
        except CalledOff as error:
            log.warning("Called off by %s.", error.by)
            await self._record(given, steps.CANCELLED, self._cancelled(given, error.by))
        except asyncio.CancelledError:
            abandoned = RestoreAbandoned(run=given.run, slot=wish.slot, restore=wish.restore)
            await asyncio.shield(self._record(given, steps.ABANDONED, abandoned))
            raise
        except (BackupManagerError, OSError) as error:
            return await self._failed(given, as_failure(error))
        else:
            await self._record(given, steps.COMPLETED, completed)
            reached(Milestone.RESTORE_TOLD)
            log.info("Restored %s files to %s.", f"{completed.files:,}", ", ".join(completed.places))
        return Done()

    async def _restore(self, given: Assignment) -> RestoreCompleted:
        """Read the restore point, whole or in part, and make the same of it elsewhere."""
        if given.attempt > self.settings.timing.max_attempts:
            raise RunFailed(
                f"It was begun {given.attempt - 1} times and never came to an end: its worker vanished.",
                "The journal of the restorer says why.",
                code="vanished",
            )
        began, wish = self.clock.monotonic(), given.wish
        progress = Progress(self.log, self.clock, given.host.name, given.run, wish.restore)
        with being_read(given.folder, wish.kind, wish.point) as source:
            reached(Milestone.RESTORE_SOURCE_HELD)
            paths = chosen(source, [decode_path(path) for path in wish.paths])
            found = await watched(lambda watch: counted(source, paths, watch.go_on), _nobody)
            progress.total_bytes = found.size_bytes
            reached(Milestone.RESTORE_COUNTED)
            work = Work(
                run=given.run,
                wish=wish,
                host=given.host,
                settings=self.settings,
                store=self.store,
                lock=given.lock,
                source=source,
                paths=paths,
                counted=found,
                progress=progress,
                acls=await keeps_acls(),
                left=given.left,
            )
            restore = restore_to_folder if wish.target == TO_FOLDER else restore_to_host
            made = await restore(work, self.clock)
            self.store.check()
        return RestoreCompleted(
            run=given.run,
            slot=wish.slot,
            restore=wish.restore,
            places=made.places,
            files=found.files,
            directories=found.directories,
            size_bytes=found.size_bytes,
            verified_files=made.verified_files,
            checked_files=made.checked_files,
            duration_seconds=round(self.clock.monotonic() - began, 3),
            warnings=made.warnings,
        )

    async def _failed(self, given: Assignment, error: RunFailed) -> Disposition:
        final = not error.transient or given.attempt >= self.settings.timing.max_attempts
        log.error("Attempt %d failed: %s", given.attempt, error)
        fact = RestoreFailed(
            run=given.run,
            slot=given.wish.slot,
            restore=given.wish.restore,
            code=error.code,
            message=error.message,
            hint=error.hint,
            attempt=given.attempt,
            final=final,
            left=tuple(given.left),
        )
        await self._record(given, steps.FAILED, fact)
        return Done() if final else RetryIn(self.settings.timing.retry_seconds * given.attempt)

    def _cancelled(self, given: Assignment, by: str) -> RestoreCancelled:
        return RestoreCancelled(
            slot=given.wish.slot, restore=given.wish.restore, run=given.run, by=by, left=tuple(given.left)
        )

    async def _record(self, given: Assignment, step: int, event: AnyEvent) -> None:
        await self.log.record(given.host.name, [NewEvent(event_id(given.run, step), event)])


async def _nobody(_: Watch) -> None:
    """Counting is not told: it takes seconds."""
