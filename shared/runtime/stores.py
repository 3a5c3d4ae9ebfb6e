"""The stores that are mounted on this machine, each served side by side, and those that come and go.

A store of the settings that is not mounted here is left to the machine that has it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from shared.adapters.store import Store
from shared.adapters.threads import in_thread
from shared.config import Settings
from shared.domain.errors import BackupManagerError, StoreRefused
from shared.domain.names import StoreName
from shared.runtime.workplace import Ways, Workplace, connected, workplace

LOOK_SECONDS: Final = 60.0
"""How often it is looked whether a drive came or went."""

Work = Callable[[Workplace, asyncio.Event], Awaitable[None]]
"""Serves one store until the event is set."""

log = logging.getLogger(__name__)


def mounted_stores(settings: Settings) -> dict[StoreName, Store]:
    """Every store of the settings that is mounted here, open; the others are said, one line each.

    Raises StoreRefused when there is none.
    """
    found: dict[StoreName, Store] = {}
    refused: list[StoreRefused] = []
    for name, root in settings.stores.items():
        try:
            found[name] = Store.open(root, name)
        except StoreRefused as error:
            refused.append(error)
    if not found:
        raise _none_of(refused)
    for absent in refused:
        log.warning("%s It is left alone here.", absent.message)
    return found


def _none_of(refused: list[StoreRefused]) -> StoreRefused:
    if len(refused) == 1:
        return refused[0]
    said = " ".join(error.message for error in refused)
    return StoreRefused(f"No store is mounted on this machine. {said}", "Mount one of them, or correct its root.")


async def serve_stores(
    settings: Settings, service: str, stop: asyncio.Event, work: Work, *, held_back: bool = False
) -> None:
    """Do the work for every store that is mounted here until told to stop.

    With one store in the settings nothing is looked for: its work goes on, and says what is wrong, while the drive is
    away. With several, a drive that comes is served without a new start, and one that goes is left alone until it is
    back; neither disturbs the others.

    A service that is `held_back` by the kernel (decision D37) can never write to a drive that came after its start:
    it then works off what is under way, begins nothing new and ends, to be started again by whatever keeps it alive.
    Raises StoreRefused before anything is written, BusUnavailable, and BackupManagerError for such an end.
    """
    mounted = mounted_stores(settings)
    try:
        async with connected(settings, service, stop) as ways:
            serving = _Serving(ways, stop, work, held_back)
            async with asyncio.TaskGroup() as tasks:
                for name in settings.stores:
                    tasks.create_task(serving.keep(name, mounted.pop(name, None)))
    finally:
        for store in mounted.values():
            store.close()
    if ways.leave.is_set() and not stop.is_set():
        raise BackupManagerError(
            f"The store {serving.came} was mounted after the start, and this service may not write there.",
            "It ends, and serves that store when it is started again.",
        )


@dataclass(slots=True)
class _Serving:
    ways: Ways
    stop: asyncio.Event
    work: Work
    held_back: bool
    came: str = ""
    _said: dict[StoreName, str] = field(default_factory=dict)

    async def keep(self, name: StoreName, store: Store | None) -> None:
        """Serve a store whenever it is mounted here."""
        if len(self.ways.settings.stores) == 1 and store is not None:
            with contextlib.closing(store):
                await self._serve(store, self.stop)
            return
        while not self._ending():
            if store is not None:
                with contextlib.closing(store):
                    await self._serve_while_mounted(store)
            await self._pause(self.stop, self.ways.leave)
            store = None if self._ending() else await self._look(name)
            if store is not None and self.held_back:
                self.came = self.came or repr(name)
                log.info("The store %r is mounted now; this service ends when what is under way is done.", name)
                self.ways.leave.set()
        if store is not None:
            store.close()

    def _ending(self) -> bool:
        return self.stop.is_set() or self.ways.leave.is_set()

    async def _look(self, name: StoreName) -> Store | None:
        try:
            store = await in_thread(Store.open, self.ways.settings.root_of(name), name)
        except StoreRefused as error:
            if self._said.get(name) != error.message:
                log.info("%s It is looked for every minute.", error.message)
                self._said[name] = error.message
            return None
        self._said.pop(name, None)
        return store

    async def _serve(self, store: Store, stop: asyncio.Event) -> None:
        async with workplace(self.ways, store, stop) as place:
            await self.work(place, stop)
            if self.ways.leave.is_set():
                stop.set()  # of this store alone: with one store in the settings nobody is ever asked to leave

    async def _serve_while_mounted(self, store: Store) -> None:
        name, gone = store.identity.name, asyncio.Event()
        log.info("The store %r at %s is served.", name, store.root)
        try:
            async with asyncio.TaskGroup() as tasks:
                watching = [tasks.create_task(task) for task in (self._pass_on(gone), self._watch(store, gone))]
                await self._serve(store, gone)
                for task in watching:
                    task.cancel()
        except* (OSError, StoreRefused) as errors:
            # What is wrong with one drive is not to end the work on the others.
            log.error("The store %r cannot be served now: %s", name, errors.exceptions[0])

    async def _pass_on(self, gone: asyncio.Event) -> None:
        await self.stop.wait()
        gone.set()

    async def _watch(self, store: Store, gone: asyncio.Event) -> None:
        while not gone.is_set():
            await self._pause(gone)
            try:
                await in_thread(store.check)
            except StoreRefused as error:
                log.error("%s Its hosts wait until it is back here or elsewhere.", error.message)
                gone.set()

    async def _pause(self, *unless: asyncio.Event) -> None:
        """Wait for a while, or until one of the events."""
        waits = [asyncio.create_task(event.wait()) for event in unless]
        try:
            await asyncio.wait(waits, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
