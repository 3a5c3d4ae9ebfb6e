"""One run of the retention: what it works on, and what came of it so far."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from services.retention.facts import Drive, facts_of
from shared.adapters.clock import SystemClock
from shared.adapters.filesystem import FileLock
from shared.adapters.store import HostFolder, Store
from shared.config import Settings
from shared.domain.events import AnyEvent, NewEvent
from shared.domain.host_state import HostState
from shared.domain.ids import event_id
from shared.domain.names import HostName
from shared.domain.restore_points import Facts
from shared.runtime.host_log import HostLog


@dataclass(slots=True)
class Thinning:
    """One run: what it works on, and what came of it so far. `in_use` are keys that were found to be read."""

    run: UUID
    host: HostName
    slot: datetime
    settings: Settings
    store: Store
    folder: HostFolder
    lock: FileLock
    log: HostLog
    clock: SystemClock
    state: HostState
    drive: Drive
    policy_changed_at: datetime | None = None
    removed: int = 0
    purged: int = 0
    in_use: set[str] = field(default_factory=set)

    @property
    def attempt(self) -> int:
        """Which try of the slot this is."""
        run = self.state.retention_run
        return 1 if run is None or run.slot != self.slot else run.attempt + (run.run != self.run)

    def facts(self) -> Facts:
        """What a plan is made of now."""
        drive = replace(self.drive, in_use=self.drive.in_use | self.in_use)
        return facts_of(self.state, drive, self.policy_changed_at, self.clock.now())

    async def record(self, step: int, event: AnyEvent) -> None:
        """Keep a fact of this run."""
        await self.log.record(self.host, [NewEvent(event_id(self.run, step), event)])
