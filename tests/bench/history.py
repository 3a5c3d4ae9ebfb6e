"""What two hundred hosts would have told the log: mostly ordinary runs, now and then something else."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from shared.domain.events import (
    AlertRaised,
    AnyEvent,
    BackupRequested,
    HostFoundOffline,
    Job,
    NewEvent,
    Quality,
    SnapshotCompleted,
    SnapshotFailed,
    SnapshotProgressed,
    SnapshotStarted,
)
from shared.domain.ids import event_id, run_id
from shared.domain.names import HostName, host_stream, snapshot_name

HOSTS: Final = 200
BEGIN: Final = datetime(2020, 1, 1, tzinfo=UTC)
BATCH: Final = 100


class Host:
    """One host's part of the log, told hour by hour without end."""

    def __init__(self, number: int) -> None:
        self.stream = host_stream(HostName(f"host-{number:03}"))
        self.version = 0
        self._number = number
        self._dice = random.Random(number)  # noqa: S311  # nothing here is secret
        self._waiting: list[NewEvent] = []
        self._hours = self._told()

    def next(self, count: int) -> list[NewEvent]:
        """The next events of its stream, and `version` moved behind them."""
        while len(self._waiting) < count:
            self._waiting += next(self._hours)
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        self.version += count
        return taken

    def _told(self) -> Iterator[list[NewEvent]]:
        base: str | None = None
        for hour in range(10**9):
            slot = BEGIN + timedelta(hours=hour)
            run = run_id(int(slot.timestamp() * 1000) + self._number, self._dice.getrandbits(58))
            events = list(self._hour(run, slot, base))
            base = snapshot_name(slot)
            yield [NewEvent(event_id(run, step), event) for step, event in enumerate(events, 1)]

    def _hour(self, run: UUID, slot: datetime, base: str | None) -> Iterator[AnyEvent]:
        dice = self._dice
        if dice.random() < 0.005:
            yield HostFoundOffline(slot=slot, reason="Connection refused")
        if dice.random() < 0.02:
            yield BackupRequested(job=Job.SNAPSHOT, slot=slot, by="dashboard")
        attempts = 2 if dice.random() < 0.01 else 1
        for attempt in range(1, attempts + 1):
            yield SnapshotStarted(run=run, slot=slot, store="main", worker="worker:4711", attempt=attempt, base=base)
            files = dice.randrange(100_000)
            yield SnapshotProgressed(
                run=run,
                files=files,
                transferred_bytes=files * 700,
                bytes_per_second=31_457_280,
                percent=dice.randrange(100),
                eta_seconds=dice.randrange(60),
            )
            if attempt < attempts:
                yield SnapshotFailed(
                    run=run, slot=slot, code="rsync_12", message="rsync ended with code 12.", final=False
                )
        yield self._completed(run, slot, base)
        if dice.random() < 0.002:
            yield AlertRaised(kind="sharing_collapsed", evidence="1,000 files were copied.", run=run)

    def _completed(self, run: UUID, slot: datetime, base: str | None) -> SnapshotCompleted:
        dice = self._dice
        moved = dice.randrange(1_000)
        return SnapshotCompleted(
            run=run,
            slot=slot,
            snapshot=snapshot_name(slot),
            store="main",
            quality=Quality.COMPLETE,
            base=base,
            files=100_000 + moved,
            directories=8_000,
            symlinks=1_000,
            size_bytes=690_000_000 + moved,
            transferred_files=moved,
            transferred_bytes=moved * 7_000,
            shared_bytes=690_000_000 - moved * 7_000,
            removed_files=dice.randrange(50),
            received_bytes=moved * 7_100 + 1_400_000,
            duration_seconds=round(dice.uniform(1.5, 60), 3),
            exit_code=0,
            changes_digest=dice.randbytes(32).hex(),
        )


def batches(events: int) -> Iterator[tuple[Host, list[NewEvent]]]:
    """So many events of all hosts, in turns, in batches as a relay after a long night sends them."""
    hosts = [Host(number) for number in range(HOSTS)]
    sent = 0
    while sent < events:
        for host in hosts[: -(-(events - sent) // BATCH)]:
            count = min(BATCH, events - sent)
            sent += count
            yield host, host.next(count)
