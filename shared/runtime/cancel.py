"""Hears that a host's work is called off, and tells the run that is doing it.

A message on `backup.cancel.<host>` reaches running workers at once; the last one of each host stays on the bus for
an hour, so that it also holds for a tick that waits, and for a worker that was disconnected when it came. It holds
for every slot before its second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any, Final, TypeVar

from shared.adapters.jetstream import Bus, BusUnavailable
from shared.domain.errors import CalledOff, MessageRefused
from shared.domain.messages import decode_cancel
from shared.domain.names import HostName
from shared.runtime.rejected import Rejections

LOOK_AGAIN_SECONDS: Final = 15.0
SOMEBODY: Final = "somebody"

_Result = TypeVar("_Result")

log = logging.getLogger(__name__)


class CancelWish:
    """Whether a run is called off, and by whom. `restore` is its restore, if it is one."""

    def __init__(self, restore: str = "") -> None:
        self.restore = restore
        self.asked = asyncio.Event()
        self.by = ""

    def ask(self, by: str) -> None:
        """Call it off."""
        self.by = by
        self.asked.set()

    async def unless_asked(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Do the work, and stop it at once when it is called off. Raises CalledOff when it had not ended by then."""
        doing = asyncio.create_task(work)
        asked = asyncio.create_task(self.asked.wait())
        try:
            await asyncio.wait({doing, asked}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            doing.cancel()  # ended already, unless it is called off or we ourselves are being cancelled
            await asyncio.gather(doing, asked, return_exceptions=True)
        if doing.cancelled():
            raise CalledOff(self.by)
        return doing.result()


class Cancels:
    """The cancel messages of all hosts."""

    def __init__(self, bus: Bus, rejections: Rejections) -> None:
        self._bus = bus
        self._rejections = rejections
        self._wishes: dict[HostName, CancelWish] = {}
        self._slots: dict[HostName, datetime] = {}

    @asynccontextmanager
    async def heard(self) -> AsyncIterator[None]:
        """Listen for as long as the block lasts."""
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(self._look_again())
            async with self._bus.cancels(self._hear):
                yield
            looking.cancel()

    @contextmanager
    def wish(self, host: HostName, slot: datetime, restore: str = "") -> Iterator[CancelWish]:
        """What is said about the run of this host and slot while the block lasts."""
        wish = self._wishes[host] = CancelWish(restore)
        self._slots[host] = slot
        try:
            yield wish
        finally:
            del self._wishes[host], self._slots[host]

    async def called_off_by(self, host: HostName, slot: datetime, restore: str = "") -> str:
        """Who called this slot off; empty when nobody did or the bus cannot be asked now."""
        try:
            found = await self._bus.last_cancel(host)
        except BusUnavailable as error:
            log.warning("%s", error)
            return ""
        try:
            cancel = decode_cancel(f"backup.cancel.{host}", found[0]) if found is not None else None
        except MessageRefused:
            return ""
        if found is None or cancel is None or cancel.restore not in {"", restore}:
            return ""
        if cancel.restore:
            return cancel.by or SOMEBODY  # it names this one, whenever it was said
        # A wish has the second in which it was made for its slot: one of the second of the cancel may have come after.
        return "" if found[1].replace(microsecond=0) <= slot else cancel.by or SOMEBODY

    async def _hear(self, subject: str, body: bytes) -> None:
        try:
            cancel = decode_cancel(subject, body)
        except MessageRefused as error:
            log.warning("A cancel message is refused: %s", error)
            await self._rejections.record(subject, error.message, body)
            return
        wish = self._wishes.get(cancel.host)
        if wish is not None and cancel.restore in {"", wish.restore}:
            log.info("Called off by %s.", cancel.by or SOMEBODY)
            wish.ask(cancel.by or SOMEBODY)

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            for host, wish in list(self._wishes.items()):
                if by := await self.called_off_by(host, self._slots[host], wish.restore):
                    wish.ask(by)
