"""How far a run is, told to the log now and then."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from services.archiver import steps
from services.archiver.pack import Packing
from shared.adapters.clock import SystemClock
from shared.domain.events import ArchiveProgressed, NewEvent, SnapshotCompleted
from shared.domain.ids import MAX_STEP, event_id
from shared.domain.names import HostName
from shared.runtime.host_log import HostLog

PROGRESS_SECONDS: Final = 2.0


class Progress:
    """The progress events of one run."""

    def __init__(self, log: HostLog, clock: SystemClock, host: HostName, run: UUID, source: SnapshotCompleted) -> None:
        self._log = log
        self._clock = clock
        self._host = host
        self._run = run
        self._entries = max(1, source.files + source.directories + source.symlinks)
        self._step = steps.FIRST_PROGRESS
        self._began = self._told_at = clock.monotonic()

    async def tell(self, packing: Packing) -> None:
        """Record how far packing is, unless it was told a moment ago or nobody can look at it now."""
        now = self._clock.monotonic()
        if now - self._told_at < PROGRESS_SECONDS or self._step > MAX_STEP or self._log.outbox.log_is_away:
            return
        self._told_at = now
        fact = self._describe(packing)
        self._step += 1
        await self._log.record(self._host, [NewEvent(event_id(self._run, self._step - 1), fact)])

    def _describe(self, packing: Packing) -> ArchiveProgressed:
        seconds = max(0.001, self._clock.monotonic() - self._began)
        share = min(1.0, packing.members / self._entries)
        return ArchiveProgressed(
            run=self._run,
            members=packing.members,
            read_bytes=packing.read_bytes,
            written_bytes=packing.written_bytes,
            bytes_per_second=round(packing.read_bytes / seconds),
            percent=int(100 * share),
            eta_seconds=round(seconds / share * (1 - share)) if share > 0 else None,
        )
