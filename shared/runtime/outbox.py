"""Facts on their way to the log: durable on the drive first, then relayed in order, each exactly once.

A backup never waits for Postgres. What a worker saw happen is kept in the host's spool before anything else relies
on it; the relay appends it as soon as the log answers. Sending the same event twice changes nothing, because its id
is derived from its run. Each service relays its own facts only (the database takes no others from it); a reader waits
until those of the others are told too.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Collection, Sequence
from typing import Final

from shared.adapters.milestones import Milestone, reached
from shared.adapters.postgres import EventLog
from shared.adapters.spool import Spool, Waiting
from shared.adapters.store import Store
from shared.adapters.threads import in_thread
from shared.domain.errors import LogRefused, LogUnavailable, StoreRefused
from shared.domain.events import NewEvent
from shared.domain.names import HostName, host_stream

RELAY_SECONDS: Final = 2.0
OTHERS_SECONDS: Final = 2.0
"""How long a reader waits for what other services are just telling the log."""

LOOK_SECONDS: Final = 0.05

log = logging.getLogger(__name__)


class Outbox:
    """The spools of a store and the relay that empties them: of the types named, or of all events."""

    def __init__(self, store: Store, events: EventLog, types: Collection[str] | None = None) -> None:
        self._store = store
        self._log = events
        self._types = types
        self._waiting: set[HostName] = set(store.hosts())
        self._turns: dict[HostName, asyncio.Lock] = {}
        self.log_is_away = False

    async def record(self, host: HostName, events: Sequence[NewEvent]) -> None:
        """Keep facts for ever. Raises LogUnavailable only when neither the drive nor the log takes them."""
        try:
            await in_thread(self._spool, host, events)
        except (sqlite3.Error, StoreRefused) as error:
            log.warning("The spool of %s cannot be written (%s); telling the log directly.", host, error)
            await self.tell(host)  # what waits there of ours happened before: a full drive can still be read
            await self._log.append(host_stream(host), None, events)
            return
        reached(Milestone.SPOOL_WRITTEN)
        self._waiting.add(host)
        await self.tell(host)

    async def drain(self, host: HostName) -> bool:
        """Append what waits for this host; True when nothing waits any more, neither of ours nor of others."""
        told = await self.tell(host)
        if not told or self._types is None:
            return told
        for _ in range(int(OTHERS_SECONDS / LOOK_SECONDS)):
            try:
                if await in_thread(self._is_empty, host):
                    return True
            except (sqlite3.Error, StoreRefused) as error:
                log.warning("The spool of %s cannot be read now: %s", host, error)
                return False
            await asyncio.sleep(LOOK_SECONDS)
        log.warning("Events of %s that another service has to tell the log still wait on the drive.", host)
        return False

    async def tell(self, host: HostName) -> bool:
        """Append what waits of ours for this host; True when nothing of it waits any more."""
        async with self._turns.setdefault(host, asyncio.Lock()):
            try:
                while waiting := await in_thread(self._oldest, host):
                    await self._send(waiting)
                    reached(Milestone.SPOOL_SENT)
                    await in_thread(self._forget, host, waiting.last_number)
                    reached(Milestone.SPOOL_FORGOTTEN)
            except LogUnavailable as error:
                if not self.log_is_away:
                    log.warning("%s Events are kept on the drive until it is back.", error.message)
                self.log_is_away = True
                return self._not_yet(host)
            except LogRefused as error:
                # It would be refused again, and what comes after it must not overtake it: a person has to look.
                log.error("Events of %s stay on the drive: %s", host, error)
                return self._not_yet(host)
            except (sqlite3.Error, StoreRefused) as error:
                log.warning("The spool of %s cannot be read now: %s", host, error)
                return self._not_yet(host)
            if self.log_is_away:
                log.info("The event log is back.")
            self.log_is_away = False
            self._waiting.discard(host)
            return True

    def _not_yet(self, host: HostName) -> bool:
        self._waiting.add(host)
        return False

    async def relay(self, stop: asyncio.Event) -> None:
        """Empty all spools again and again until told to stop."""
        while not stop.is_set():
            for host in sorted(self._waiting):
                if not await self.tell(host) and self.log_is_away:
                    break
            try:
                async with asyncio.timeout(RELAY_SECONDS):
                    await stop.wait()
            except TimeoutError:
                continue

    async def _send(self, waiting: Waiting) -> None:
        try:
            await self._log.append(waiting.stream, None, waiting.events)
        except LogRefused:
            # Some of them may be recorded already, in the middle of the batch: one by one each is harmless.
            for event in waiting.events:
                await self._log.append(waiting.stream, None, [event])

    def _spool(self, host: HostName, events: Sequence[NewEvent]) -> None:
        with self._store.folder(host):
            self._open(host).add(host_stream(host), events)

    def _is_empty(self, host: HostName) -> bool:
        self._store.check()
        path = self._store.root / host / ".spool" / "events.db"
        return not path.exists() or self._open(host).is_empty()

    def _oldest(self, host: HostName) -> Waiting | None:
        self._store.check()
        path = self._store.root / host / ".spool" / "events.db"
        return self._open(host).oldest() if path.exists() else None

    def _forget(self, host: HostName, upto_number: int) -> None:
        self._store.check()
        self._open(host).forget(upto_number)

    def _open(self, host: HostName) -> Spool:
        return Spool(self._store.root / host / ".spool" / "events.db", self._types)
