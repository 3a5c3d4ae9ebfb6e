"""The state as it was: the nearest saved projection and the events after it; the last ones asked for are remembered."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from services.api.starting import restored
from shared.adapters.postgres import EventLog
from shared.adapters.projections import Projections
from shared.domain.projection import State, evolve_page

MOST_STATES: Final = 32
MOST_POINTS: Final = 300_000
"""Restore points in all remembered states together; about 400 bytes each."""


class Past:
    """Past states by position. They are shared: nobody may change one."""

    def __init__(self, events: EventLog, saved: Projections | None = None) -> None:
        self._events = events
        self._saved = saved
        self._known: OrderedDict[int, State] = OrderedDict()
        self._turn = asyncio.Lock()

    async def at(self, position: int) -> State:
        """The state at a position. Raises LogUnavailable."""
        async with self._turn:  # whoever drags a time slider asks for many: one after the other, and none twice
            state = self._known.pop(position, None) or await self._made(position)
            self._known[position] = state
            while len(self._known) > 1 and self._too_many():
                self._known.popitem(last=False)
            return state

    async def _made(self, position: int) -> State:
        state = State() if self._saved is None else await restored(self._saved, position)
        async for page in self._events.pages(state.position, position):
            evolve_page(state, page)
            await asyncio.sleep(0)
        return state

    def _too_many(self) -> bool:
        return len(self._known) > MOST_STATES or sum(map(_points, self._known.values())) > MOST_POINTS


def _points(state: State) -> int:
    return sum(len(host.snapshots) + len(host.archives) + len(host.trash) for host in state.hosts.values())
