"""Two retention workers and readers of the same host: what is being read is never removed, and nothing goes twice."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress

import asyncpg
import pytest

from services.archiver.compression import Compression
from services.archiver.handler import _being_read
from services.archiver.pack import pack, read_back
from services.archiver.reports import Packing
from services.retention.handler import Retention
from shared.adapters.markers import MARKER_FILE, StoredSnapshot
from shared.adapters.postgres import EventLog
from shared.adapters.store import Store
from shared.domain.errors import HostBusy, RunFailed
from shared.domain.events import Job, PointTrashed, RemovalOrdered
from shared.domain.messages import Tick
from tests.support.builders import HOST, MAIN
from tests.support.servers import Database
from tests.support.stock import put_snapshot
from tests.support.thinning import HOUR, Bench, new_worker, six_snapshots

RACES = 60
PACKED_EACH = 15
"""So many of the races have a real archive under way; the others a reader that begins and ends at any moment."""


@pytest.fixture
async def place(database: Database, admin: asyncpg.Connection) -> AsyncIterator[Bench]:
    async with six_snapshots(database, admin) as made:
        yield made


async def raced(worker: Retention, tick: Tick, delay_seconds: float) -> None:
    """Work the tick off as a worker does that is told to come again while another one has the host."""
    await asyncio.sleep(delay_seconds)
    with suppress(HostBusy):
        await worker.handle(tick)


async def being_read(place: Bench, snapshot: StoredSnapshot, delay_seconds: float) -> bool:
    """Read a snapshot for a while, by its name: it is there until the end. False when it was being removed."""
    await asyncio.sleep(delay_seconds)
    try:
        with _being_read(place.folder, snapshot):
            path = place.path / "hourly" / snapshot.name
            if not path.exists():
                return False  # it was opened before it went, and is read in the trash
            await asyncio.sleep(0.02)
            assert (path / MARKER_FILE).exists()
            return True
    except (RunFailed, FileNotFoundError):
        return False


async def packed(place: Bench, snapshot: StoredSnapshot) -> bool:
    """Pack a snapshot as the archiver does, and read the archive back: it verifies."""

    async def nothing(_packing: Packing) -> None:
        """Nobody wants to know how far it is."""

    compression = Compression()
    try:
        with tempfile.TemporaryFile() as file, _being_read(place.folder, snapshot) as tree:
            made = await pack(tree, file.fileno(), compression=compression, report=nothing)
            await read_back(file.fileno(), made, compression)
            home = os.open("home/alice/b.txt", os.O_RDONLY, dir_fd=tree)
            assert os.pread(home, 100, 0).decode() == snapshot.name
            os.close(home)
            return True
    except (RunFailed, FileNotFoundError) as error:
        if getattr(error, "code", "in_use") != "in_use":
            raise
        return False


async def test_what_is_read_is_never_removed_and_nothing_is_removed_twice(place: Bench, database: Database) -> None:
    chance, seen = random.Random(7), Counter[str]()  # noqa: S311  # only moments
    logs = [EventLog(database.worker_dsn) for _ in range(2)]
    stores = [Store.open(place.settings.backup_root, MAIN) for _ in range(2)]
    workers = [new_worker(place.settings, store, log, place.clock) for store, log in zip(stores, logs, strict=True)]
    try:
        for race in range(RACES):
            await a_race(place, workers, chance, seen, archived=race % (RACES // PACKED_EACH) == 0)
    finally:
        for log, store in zip(logs, stores, strict=True):
            await log.close()
            store.close()
    await place.agree()
    trashed, ordered = await place.events(PointTrashed), await place.events(RemovalOrdered)
    assert max(Counter(event.point for event in trashed).values()) == 1
    assert max(Counter(event.point for event in ordered).values()) == 1
    assert seen["read"] > RACES / 4, seen
    assert seen["packed"] == PACKED_EACH
    assert len(trashed) > RACES / 2


async def a_race(
    place: Bench, workers: list[Retention], chance: random.Random, seen: Counter[str], *, archived: bool
) -> None:
    """A further snapshot makes an older one go, while somebody reads that."""
    now = place.clock.at + HOUR
    await place.set_time(now)
    await place.tell(*put_snapshot(place.folder, now.replace(second=0)))
    oldest_first = place.folder.snapshots()
    expired = oldest_first[-4]
    tick = Tick(Job.RETENTION, MAIN, HOST, now)
    runs = [raced(worker, tick, chance.uniform(0, 0.03)) for worker in workers]
    if archived:
        reading = asyncio.create_task(packed(place, expired))
        done = await asyncio.gather(*runs, reading)
        seen["packed"] += done[-1] is True
    else:
        done = await asyncio.gather(*runs, being_read(place, expired, chance.uniform(0, 0.06)))
        seen["read"] += done[-1] is True
