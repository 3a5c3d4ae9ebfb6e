"""How far a restore is, told to the log now and then."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from services.restorer import steps
from services.restorer.rsync import Moved
from services.restorer.watch import Watch
from shared.adapters.clock import SystemClock
from shared.domain.events import NewEvent, RestoreProgressed
from shared.domain.ids import MAX_STEP, event_id
from shared.domain.names import HostName
from shared.runtime.host_log import HostLog

PROGRESS_SECONDS: Final = 2.0


class Progress:
    """The progress events of one run. `total_bytes` is what each stage has to go through."""

    def __init__(self, log: HostLog, clock: SystemClock, host: HostName, run: UUID, restore: UUID) -> None:
        self._log = log
        self._clock = clock
        self._host = host
        self._run = run
        self._restore = restore
        self._step = steps.FIRST_PROGRESS
        self._told_at = self._began = clock.monotonic()
        self._stage = ""
        self.total_bytes = 0
        self._before = self._newest = Moved(0, 0)

    async def moved(self, moved: Moved) -> None:
        """Note what rsync says."""
        self._newest = Moved(self._before.files + moved.files, self._before.bytes + moved.bytes)
        await self._tell("transfer", self._newest.files, self._newest.bytes)

    def next_transfer(self) -> None:
        """Another rsync begins: it counts from nothing."""
        self._before = self._newest

    async def verified(self, watch: Watch) -> None:
        """Note how far the comparison is."""
        await self._tell("verify", watch.files, watch.bytes)

    async def _tell(self, stage: str, files: int, done_bytes: int) -> None:
        now = self._clock.monotonic()
        if stage != self._stage:
            self._stage, self._began, self._told_at = stage, now, now  # a rate needs some time to be true
        if now - self._told_at < PROGRESS_SECONDS or self._step > MAX_STEP or self._log.outbox.log_is_away:
            return
        self._told_at = now
        seconds = max(0.001, now - self._began)
        share = min(1.0, done_bytes / self.total_bytes) if self.total_bytes else 0.0
        fact = RestoreProgressed(
            run=self._run,
            restore=self._restore,
            stage=stage,
            files=files,
            transferred_bytes=done_bytes,
            bytes_per_second=round(done_bytes / seconds),
            percent=int(100 * share),
            eta_seconds=round(seconds / share * (1 - share)) if share > 0 else None,
        )
        self._step += 1
        await self._log.record(self._host, [NewEvent(event_id(self._run, self._step - 1), fact)])
