"""Saves projections while the API follows the log, drops those that are no longer needed, and has gaps filled."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from typing import Final, NoReturn

import asyncpg
import msgspec

from services.api.starting import HOSTS_AT_ONCE
from shared.adapters import process
from shared.adapters.clock import SystemClock
from shared.adapters.projections import Projections
from shared.domain.errors import BackupManagerError
from shared.domain.packed import Packed, pack_host, pack_rest
from shared.domain.projection import State
from shared.domain.saving import START, Mark, first_gap, is_due, superfluous

GAPS_SECONDS: Final = 6 * 3600.0
_TROUBLE: Final = (BackupManagerError, asyncpg.PostgresError, msgspec.MsgspecError, OverflowError, TimeoutError)
"""None of it may keep the API from following the log: without saved projections it is only slower."""

log = logging.getLogger(__name__)


class Saver:
    """Is offered each new state; `run` does the slow part of it."""

    def __init__(self, saved: Projections, dsn: str, clock: SystemClock) -> None:
        self._saved = saved
        self._dsn = dsn
        self._clock = clock
        self._last: Mark | None = None
        self._waiting: asyncio.Queue[tuple[Mark, Packed]] = asyncio.Queue(1)

    async def offer(self, state: State) -> None:
        """Save this state when it is time to. It must not change meanwhile; others have their turns."""
        here = Mark(state.position, state.recorded_us)
        if self._last is None or self._waiting.full() or not is_due(self._last, here, self._now_us()):
            return
        try:
            packed = Packed(pack_rest(state), {})
            for number, (name, host) in enumerate(state.hosts.items()):
                packed.hosts[name] = pack_host(host)
                if number % HOSTS_AT_ONCE == 0:
                    await asyncio.sleep(0)
        except _TROUBLE as error:
            log.warning("The state at position %d cannot be saved: %s", here.position, error)
        else:
            self._waiting.put_nowait((here, packed))
        self._last = here

    async def run(self, begin: asyncio.Event) -> NoReturn:
        """Save what was offered, for ever, once the state is as new as the log."""
        await begin.wait()
        await self._begin()
        while True:
            here, packed = await self._waiting.get()
            try:
                await self._save(here, packed)
            except _TROUBLE as error:
                log.warning("The state at position %d was not saved: %s", here.position, error)

    async def fill_gaps(self, begin: asyncio.Event, present: Callable[[], State]) -> None:
        """Have the past's missing projections saved by a process of its own."""
        await begin.wait()
        try:
            head = Mark(present().position, present().recorded_us)
            if first_gap(await self._saved.marks(), head, self._now_us()):
                await self._have_gaps_filled()
        except _TROUBLE as error:
            log.warning("Gaps between saved projections stay: %s", error)

    async def _begin(self) -> None:
        try:
            self._last = max(await self._saved.marks(), default=START)
        except _TROUBLE as error:
            log.warning("Projections are not saved: %s", error)

    async def _save(self, here: Mark, packed: Packed) -> None:
        marks = await self._saved.marks()
        if is_due(max(marks, default=START), here, self._now_us()):  # else another API was faster
            await self._saved.save(here.position, packed)
            marks.append(here)
        await self._saved.drop([mark.position for mark in superfluous(marks, self._now_us())])

    async def _have_gaps_filled(self) -> None:
        argv = process.dying_with_parent([sys.executable, "-m", "services.api.fold_worker", "gaps"])
        environment = {**os.environ, "POSTGRES_DSN": self._dsn}
        async with asyncio.timeout(GAPS_SECONDS), await process.start(argv, env=environment) as running:
            async for _ in running.chunks():
                pass
            if await running.wait():
                log.warning("Gaps between saved projections stay: %s", bytes(running.stderr).decode(errors="replace"))

    def _now_us(self) -> int:
        return self._clock.unix_ms() * 1000
