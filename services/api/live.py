"""The state of everything in memory, as new as the log; and as it was at any past moment."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import Final

from shared.adapters.postgres import EventLog
from shared.domain.errors import LogUnavailable
from shared.domain.projection import State, evolve

LOG_RETRY_SECONDS: Final = 2.0

log = logging.getLogger(__name__)


class Live:
    """Follows the log. `changed` is set, and made anew, whenever something was heard."""

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self.state = State()
        self.caught_up = asyncio.Event()
        self.log_is_away = False
        self._changed = asyncio.Event()

    async def follow(self) -> None:
        """Take in what happens, for ever."""
        while True:
            try:
                async for page in self._events.follow(self.state.position):
                    for recorded in page:
                        evolve(self.state, recorded)
                    self.log_is_away = False
                    if not page:
                        self.caught_up.set()
                    self._tell()
            except LogUnavailable as error:
                log.warning("%s", error)
                self.log_is_away = True
                self._tell()
                await asyncio.sleep(LOG_RETRY_SECONDS)

    def _tell(self) -> None:
        told, self._changed = self._changed, asyncio.Event()
        told.set()

    async def change_after(self, position: int, patience_seconds: float) -> bool:
        """Wait until the state is newer than a position; False when nothing happened for so long."""
        try:
            async with asyncio.timeout(patience_seconds):
                while self.state.position <= position:
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def as_of(self, at: datetime | None) -> State:
        """The state now, or as it was at a moment. Raises LogUnavailable."""
        if at is None:
            return self.state
        state = State()
        async for page in self._events.pages(0, await self._events.position_at(at)):
            for recorded in page:
                evolve(state, recorded)
            await asyncio.sleep(0)
        return state
