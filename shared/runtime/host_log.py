"""What every worker does with the event stream of the host it works on: read it, claim a run, record facts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from shared.adapters.postgres import EventLog
from shared.domain.errors import LogConflict, LogUnavailable
from shared.domain.events import NewEvent
from shared.domain.host_state import HostState
from shared.domain.names import HostName, host_stream
from shared.domain.projection import evolve_host
from shared.runtime.outbox import Outbox

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HostLog:
    """The event streams of a store's hosts, with the spool in front of them."""

    events: EventLog
    outbox: Outbox

    async def read(self, host: HostName) -> HostState | None:
        """The host's state by the log, or None while the log is away or has not heard everything yet."""
        try:
            if not await self.outbox.drain(host):
                return None
            recorded = await self.events.read_stream(host_stream(host))
        except LogUnavailable:
            return None
        state = HostState()
        for event in recorded:
            evolve_host(state, event)
        return state

    async def refresh(self, host: HostName, state: HostState) -> None:
        """Take into a state what the log has heard since. Raises LogUnavailable."""
        for event in await self.events.read_stream(host_stream(host), state.version):
            evolve_host(state, event)

    async def claim(self, host: HostName, state: HostState | None, claim: NewEvent) -> bool:
        """Record that this worker takes a slot; False when another worker's claim came first.

        Without the log (`state` is None) the lock on the drive is the claim, and the log hears of it later.
        """
        if state is not None:
            try:
                await self.append(host, state, [claim])
            except LogConflict as error:
                log.info("Another claim came first: %s", error.message)
                return False
            except LogUnavailable:
                pass
            else:
                return True
        await self.outbox.record(host, [claim])
        return True

    async def append(self, host: HostName, state: HostState, events: Sequence[NewEvent]) -> None:
        """Record a decision that was made on this state. Raises LogConflict, LogUnavailable, LogRefused."""
        await self.events.append(host_stream(host), state.version, events)

    async def record(self, host: HostName, events: Sequence[NewEvent]) -> None:
        """Keep facts for ever, with or without the log."""
        await self.outbox.record(host, events)
