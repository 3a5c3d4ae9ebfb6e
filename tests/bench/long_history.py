"""Months of two hundred hosts as their log holds them: snapshots every hour, archives, and what retention removed.

It is written past `log.append`, by COPY and with the times at which it would have happened: a log of months cannot be
appended in minutes. Positions, versions and the hash chain are those that `log.append` would have made.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from shared.domain.events import (
    AnyEvent,
    ArchiveCompleted,
    ArchiveProgressed,
    ArchiveStarted,
    Kind,
    PointPurged,
    PointTrashed,
    Quality,
    RemovalOrdered,
    RetentionCompleted,
    RetentionStarted,
    SettingsChanged,
    SnapshotCompleted,
    SnapshotProgressed,
    SnapshotStarted,
    encode_event,
)
from shared.domain.ids import event_id, run_id
from shared.domain.names import HostName, SnapshotName, archive_name, host_stream, snapshot_name

COLUMNS: Final = ("position", "version", "recorded_at", "id", "stream", "type", "data", "meta", "hash")
POLICY: Final = "bench"
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
RATES: Final = ((5, 92), (25, 110), (10_000, 179))
"""For so many days so many events a day of one host: first it only adds, then it drops archives, then snapshots too."""

Told = tuple[datetime, UUID, AnyEvent]


def host_names(hosts: int) -> list[HostName]:
    """The names of so many hosts."""
    return [HostName(f"host-{number:03}") for number in range(hosts)]


async def fill(connection: asyncpg.Connection, events: int, hosts: int, now: datetime) -> None:
    """Write a log of so many events, the last of them a moment ago."""
    await connection.copy_records_to_table(
        "events", schema_name="log", columns=COLUMNS, records=_rows(events, hosts, now), timeout=1800
    )
    await connection.execute("VACUUM ANALYZE log.events", timeout=600)
    await connection.execute("CHECKPOINT", timeout=600)


async def _rows(events: int, hosts: int, now: datetime) -> AsyncIterator[tuple[Any, ...]]:
    previous, versions = bytes(32), dict.fromkeys(map(host_stream, host_names(hosts)), 0) | {"settings": 0}
    for position, (stream, (at, id_, event)) in enumerate(_told(events, hosts, now), 1):
        versions[stream] = version = versions[stream] + 1
        data, kind = encode_event(event), type(event).__name__
        us = (at - EPOCH) // timedelta(microseconds=1)
        head = f"{position}\n{stream}\n{version}\n{id_}\n{kind}\n{us}\n{len(data.encode())}\n{data}{{}}"
        previous = hashlib.sha256(previous + head.encode()).digest()
        yield position, version, at, id_, stream, kind, data, "{}", previous


def _told(events: int, hosts: int, now: datetime) -> Iterator[tuple[str, Told]]:
    names = host_names(hosts)
    hours = _hours(events / hosts)
    last = now.replace(minute=0, second=0, microsecond=0)
    pages = [_Host(number, name) for number, name in enumerate(names)]
    everything = _in_turns(pages, [last - timedelta(hours=ago) for ago in range(hours, -1, -1)])
    first = last - timedelta(hours=hours)
    yield "settings", (first, event_id(run_id(0, 1), 1), SettingsChanged(settings={"TZ": "UTC"}, changed=("TZ",)))
    for number, told in enumerate(everything, 2):
        if number > events:
            return
        yield told


def _in_turns(pages: list[_Host], slots: list[datetime]) -> Iterator[tuple[str, Told]]:
    for slot in slots:
        told = [(page.stream, one) for page in pages for one in page.hour(slot)]
        yield from sorted(told, key=lambda one: one[1][0])


def _hours(events: float) -> int:
    hours = 0.0
    for days, rate in RATES:
        taken = min(events, days * rate)
        events -= taken
        hours += taken * 24 / rate
    return int(hours)


class _Host:
    """One host, hour by hour."""

    def __init__(self, number: int, name: HostName) -> None:
        self.stream = host_stream(name)
        self._name = name
        self._number = number
        self._dice = random.Random(number)  # noqa: S311  # nothing here is secret
        self._hourly: list[datetime] = []
        self._archives: list[tuple[datetime, str]] = []
        self._base: SnapshotName | None = None

    def hour(self, slot: datetime) -> list[Told]:
        """What is told of it in an hour."""
        told = self._run(slot, self._snapshot(slot))
        if slot.hour % 4 == 0:
            told += self._run(slot, self._archive(slot), minutes=20)
        if slot.hour == 5:
            told += self._run(slot, self._retention(slot), minutes=40)
        return told

    def _run(self, slot: datetime, events: Iterator[tuple[UUID, AnyEvent]], minutes: int = 0) -> list[Told]:
        begin = slot + timedelta(minutes=minutes, seconds=self._number)
        return [
            (begin + timedelta(seconds=2 * step), event_id(run, step), event)
            for step, (run, event) in enumerate(events, 1)
        ]

    def _id(self, slot: datetime) -> UUID:
        return run_id(int(slot.timestamp() * 1000) + self._number, self._dice.getrandbits(58))

    def _snapshot(self, slot: datetime) -> Iterator[tuple[UUID, AnyEvent]]:
        run, dice = self._id(slot), self._dice
        moved = dice.randrange(1_000)
        yield run, SnapshotStarted(run=run, slot=slot, store="main", worker="worker:4711", base=self._base)
        yield (
            run,
            SnapshotProgressed(
                run=run,
                files=moved,
                transferred_bytes=moved * 700,
                bytes_per_second=31_457_280,
                percent=moved // 10,
                eta_seconds=9,
            ),
        )
        yield run, self._completed(run, slot, moved)
        self._base = snapshot_name(slot)
        self._hourly.append(slot)

    def _completed(self, run: UUID, slot: datetime, moved: int) -> SnapshotCompleted:
        return SnapshotCompleted(
            run=run,
            slot=slot,
            snapshot=snapshot_name(slot),
            store="main",
            quality=Quality.COMPLETE,
            base=self._base,
            files=100_000 + moved,
            directories=8_000,
            symlinks=1_000,
            size_bytes=690_000_000 + moved,
            transferred_files=moved,
            transferred_bytes=moved * 7_000,
            shared_bytes=690_000_000 - moved * 7_000,
            removed_files=self._dice.randrange(50),
            received_bytes=moved * 7_100 + 1_400_000,
            duration_seconds=round(self._dice.uniform(1.5, 60), 3),
            exit_code=0,
            changes_digest=self._dice.randbytes(32).hex(),
        )

    def _archive(self, slot: datetime) -> Iterator[tuple[UUID, AnyEvent]]:
        run, snapshot = self._id(slot), snapshot_name(slot)
        name = archive_name(self._name, snapshot, "tar.gz")
        yield run, ArchiveStarted(run=run, slot=slot, store="main", worker="worker:4711", snapshot=snapshot)
        yield (
            run,
            ArchiveProgressed(
                run=run, members=5_000, read_bytes=10**8, written_bytes=10**7, bytes_per_second=10**7, percent=14
            ),
        )
        yield (
            run,
            ArchiveCompleted(
                run=run,
                slot=slot,
                archive=name,
                snapshot=snapshot,
                store="main",
                members=109_000,
                source_bytes=700_000_000,
                size_bytes=300_000_000,
                sha256=self._dice.randbytes(32).hex(),
                duration_seconds=3.5,
            ),
        )
        self._archives.append((slot, name))

    def _retention(self, slot: datetime) -> Iterator[tuple[UUID, AnyEvent]]:
        run = self._id(slot)
        yield run, RetentionStarted(run=run, slot=slot, store="main", worker="worker:4711", policy=POLICY)
        going: list[tuple[Kind, str]] = [
            (Kind.SNAPSHOT, snapshot_name(one)) for one in self._hourly if self._is_old(slot, one, days=30)
        ]
        going = [one for one in going if not one[1].endswith("_0000")]
        going += [(Kind.ARCHIVE, name) for one, name in self._archives if self._is_old(slot, one, days=5)]
        self._hourly = [one for one in self._hourly if not self._is_old(slot, one, days=30)]
        self._archives = [one for one in self._archives if not self._is_old(slot, one[0], days=5)]
        for kind, point in going:
            reasons = ("older than 720 hours, and not the first of its day",)
            yield (
                run,
                RemovalOrdered(
                    run=run, kind=kind, point=point, policy=POLICY, tier="expired", reasons=reasons, covered_by=()
                ),
            )
            yield run, PointTrashed(run=run, kind=kind, point=point)
        for kind, point in going:
            yield run, PointPurged(run=run, kind=kind, point=point, entries=109_000, duration_seconds=1.5)
        yield (
            run,
            RetentionCompleted(
                run=run, slot=slot, policy=POLICY, kept=len(self._hourly), removed=len(going), purged=len(going)
            ),
        )

    @staticmethod
    def _is_old(now: datetime, slot: datetime, *, days: int) -> bool:
        return now - slot > timedelta(days=days)
