"""What is known of one drive: which it is, and how full it has been."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import msgspec

from shared.domain.events_general import StoreMeasured

DAY_US: Final = 86_400 * 1_000_000
DAYS_REMEMBERED: Final = 400


class StoreState(msgspec.Struct):
    """A drive. `used_of_day` is how many bytes were in use when each day (since 1970, UTC) was last measured."""

    uuid: UUID | None = None
    total_bytes: int = 0
    free_bytes: int = 0
    total_inodes: int = 0
    free_inodes: int | None = None
    measured_us: int | None = None
    used_of_day: dict[int, int] = {}

    @property
    def used_bytes(self) -> int:
        """What is in use, or kept back by the file system."""
        return self.total_bytes - self.free_bytes

    @property
    def used_share(self) -> float:
        """How full it is, from 0 to 1: bytes or inodes, whichever is nearer to the end."""
        shares = [
            1 - free / total
            for free, total in ((self.free_bytes, self.total_bytes), (self.free_inodes, self.total_inodes))
            if total and free is not None
        ]
        return max(shares, default=0.0)


def measured(store: StoreState, event: StoreMeasured, recorded_us: int) -> None:
    """Take a measurement into the state."""
    store.total_bytes, store.free_bytes = event.total_bytes, event.free_bytes
    store.total_inodes, store.free_inodes = event.total_inodes, event.free_inodes
    store.measured_us = recorded_us
    store.used_of_day[recorded_us // DAY_US] = store.used_bytes
    while len(store.used_of_day) > DAYS_REMEMBERED:
        del store.used_of_day[min(store.used_of_day)]
