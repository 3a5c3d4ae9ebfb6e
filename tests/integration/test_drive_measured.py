"""How full a drive is goes into the log once an hour, however many workers look."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.snapshotter.upkeep import measure
from shared.adapters.clock import SystemClock
from shared.adapters.postgres import EventLog
from shared.adapters.store import Store
from shared.domain.errors import StoreRefused
from shared.domain.events import StoreMeasured
from shared.domain.names import StoreName


class FixedClock(SystemClock):
    """A clock that shows what it is told to."""

    moment = datetime(2026, 3, 6, 8, 30, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "drive").mkdir()
    made = Store.create(tmp_path / "drive", StoreName("main"), uuid.uuid4())
    yield made
    made.close()


async def measurements(log: EventLog) -> list[StoreMeasured]:
    return [one.event for one in await log.read_stream("store-main") if isinstance(one.event, StoreMeasured)]


async def test_it_is_measured_once_an_hour(log: EventLog, store: Store) -> None:
    clock = FixedClock()
    for _ in range(3):
        await measure(store, log, clock)
    assert len(await measurements(log)) == 1
    clock.moment += timedelta(hours=1)
    await measure(store, log, clock)
    found = await measurements(log)
    assert len(found) == 2
    room = os.statvfs(store.root)
    assert found[0].total_bytes == room.f_blocks * room.f_frsize
    assert 0 < found[0].free_bytes < found[0].total_bytes


async def test_another_drive_in_its_place_is_not_measured(log: EventLog, store: Store) -> None:
    store.root.rename(store.root.with_name("moved"))
    store.root.mkdir()
    with pytest.raises(StoreRefused):
        await measure(store, log, FixedClock())
    assert await measurements(log) == []
