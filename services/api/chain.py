"""Whether the log is still what was recorded: every link of its chain is checked, unhurriedly, and each new one."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from typing import Final

import msgspec

from shared.adapters.clock import SystemClock
from shared.adapters.postgres import EventLog
from shared.domain.audit import ChainCheck, Finding
from shared.domain.errors import LogUnavailable

LOOK_SECONDS: Final = 30.0
REST_FACTOR: Final = 4.0
"""A page that took a while to check is followed by four times as long a rest: others want the processor, too."""

log = logging.getLogger(__name__)


class ChainState(msgspec.Struct, frozen=True):
    """How far the chain was checked, and what was found. `checked_at` is null before the first look."""

    position: int = 0
    head: str = ""
    anchors: int = 0
    anchored_position: int = 0
    findings: tuple[Finding, ...] = ()
    checked_at: datetime | None = None


class Chain:
    """Checks the chain of the log, for ever."""

    def __init__(self, events: EventLog, clock: SystemClock) -> None:
        self._events = events
        self._clock = clock
        self._check = ChainCheck()
        self._anchors: dict[int, bytes] = {}
        self.state = ChainState()

    async def watch(self) -> None:
        """Check what was not checked yet, again and again."""
        while True:
            try:
                await self.look()
            except LogUnavailable as error:
                log.warning("The chain of the log cannot be checked now: %s", error)
            await self._clock.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Check up to the head. Raises LogUnavailable."""
        anchors = dict(await self._events.anchors())
        fresh = anchors.keys() - self._anchors.keys()
        head = await self._events.head()
        async for links in self._events.links(self._check.position, head):
            began = asyncio.get_running_loop().time()
            self._check.check(links)
            for link in links:
                if link.position in fresh:
                    self._check.check_anchor(link.position, anchors[link.position], link.hash)
            self._note(anchors)
            await asyncio.sleep((asyncio.get_running_loop().time() - began) * REST_FACTOR)
        for position in sorted(fresh):
            if position > head:
                self._check.check_anchor(position, anchors[position], None)
        self._anchors = anchors
        self._note(anchors)

    def _note(self, anchors: dict[int, bytes]) -> None:
        self.state = ChainState(
            self._check.position,
            self._check.head.hex()[:16],
            sum(position <= self._check.position for position in anchors),
            max((position for position in anchors if position <= self._check.position), default=0),
            tuple(self._check.findings[:20]),
            self._clock.now(),
        )
