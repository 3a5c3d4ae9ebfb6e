"""The state of everything in memory, as new as the log; and as it was at any past moment."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import Final

from services.api.feed import Feed
from services.api.past import Past
from services.api.saver import Saver
from services.api.starting import first_state
from shared.adapters.clock import SystemClock
from shared.adapters.postgres import EventLog
from shared.adapters.projections import Projections
from shared.domain.errors import LogUnavailable
from shared.domain.projection import State, evolve_page

LOG_RETRY_SECONDS: Final = 2.0

log = logging.getLogger(__name__)


class Live:
    """Follows the log. `caught_up` is set when `state` is the present for the first time: until then, show nothing."""

    def __init__(self, events: EventLog, saved: Projections, dsn: str, clock: SystemClock) -> None:
        self._events = events
        self._saved = saved
        self._dsn = dsn
        self._past = Past(events, saved)
        self._saver = Saver(saved, dsn, clock)
        self._changed = asyncio.Event()
        self._ended = False
        self.feed = Feed(events)
        self.state = State()
        self.caught_up = asyncio.Event()
        self.log_is_away = False
        self.percent_read = 0

    async def run(self) -> None:
        """Follow the log and save projections, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._saver.run(self.caught_up))
            tasks.create_task(self._saver.fill_gaps(self.caught_up, lambda: self.state))
            await self.follow()

    async def follow(self) -> None:
        """Take in what happens, for ever."""
        begun = False
        while True:
            try:
                if not begun:
                    self.state = await first_state(self._events, self._saved, self._dsn, self._heard)
                    begun = True
                async for page in self._events.follow(self.state.position):
                    evolve_page(self.state, page)
                    self.log_is_away = False
                    if self.caught_up.is_set():
                        self.feed.publish(page)
                    elif not page:
                        self.feed.begin(self.state.position)
                        self.caught_up.set()
                    self._tell()
                    if not page:
                        await self._saver.offer(self.state)
            except LogUnavailable as error:
                log.warning("%s", error)
                self.log_is_away = True
                self._tell()
                await asyncio.sleep(LOG_RETRY_SECONDS)

    def _heard(self, position: int, of: int) -> None:
        self.percent_read = 100 * position // max(1, of)

    def _tell(self) -> None:
        told, self._changed = self._changed, asyncio.Event()
        told.set()

    async def change_after(self, position: int, patience_seconds: float) -> bool:
        """Wait until the state is newer than a position; False when nothing happened for so long."""
        try:
            async with asyncio.timeout(patience_seconds):
                while self.state.position <= position and not self._ended:
                    await self._changed.wait()
        except TimeoutError:
            pass
        return self.state.position > position

    def end(self) -> None:
        """Let nobody wait any longer: the service ends."""
        self._ended = True
        self.feed.end()
        self._tell()

    async def as_of(self, at: datetime | None) -> State:
        """The state now, or as it was at a moment; not to be changed. Raises LogUnavailable."""
        if at is None:
            return self.state
        position = await self._events.position_at(at)
        return self.state if position >= self.state.position else await self._past.at(position)
