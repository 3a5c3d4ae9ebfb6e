"""What the handlers read restore points through: in threads, held, and not too many at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Concatenate, Final, ParamSpec, TypeVar

from shared.adapters.disk_work import DiskWork, DriveSlow
from shared.adapters.folder_names import FolderNames
from shared.adapters.point_tree import PointTree, Where, reading
from shared.config import Settings
from shared.domain.events import Kind
from shared.domain.names import HostName

NAMES_REMEMBERED: Final = 1_000_000
MOST_LONG_READS: Final = 2
"""Searches, comparisons and the like at once: each keeps a thread busy for seconds."""

_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")


@dataclass(frozen=True, slots=True)
class PointRef:
    """A restore point that is kept, and the instant that it shows."""

    where: Where
    kind: Kind
    name: str
    slot: datetime


class Drive:
    """The drive, as the API reads it."""

    def __init__(self, settings: Settings) -> None:
        self.work = DiskWork()
        self._settings = settings
        self._names = FolderNames(NAMES_REMEMBERED)
        self._long = asyncio.Semaphore(MOST_LONG_READS)

    async def close(self) -> None:
        """Read nothing any more."""
        self.work.close()

    def where(self, host: HostName) -> Where:
        """Where the restore points of a host are. Raises StoreUnknown."""
        store = self._settings.store_of(host)
        return Where(self._settings.root_of(store), store, host)

    async def read(
        self,
        point: PointRef,
        look: Callable[Concatenate[PointTree, _Arguments], _Result],
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> _Result:
        """Call a function in a thread with a restore point that is held meanwhile. Raises what it raises."""

        def held() -> _Result:
            with reading(point.where, point.kind, point.name, self._names) as tree:
                return look(tree, *args, **kwargs)

        return await self.work.do(held)

    @asynccontextmanager
    async def long_read(self) -> AsyncIterator[None]:
        """Have the right to a read that takes seconds. Raises DriveSlow when others have it."""
        if self._long.locked():
            raise DriveSlow("Other searches or comparisons are under way.", "Try again in a moment.")
        async with self._long:
            yield
