"""The spool in memory of a drive."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from shared.adapters.spool import BATCH_EVENTS, Waiting
from shared.domain.events import NewEvent, decode_event, encode_event
from tests.faults.simulation.fake_os import FakePath
from tests.faults.simulation.loop import here

if TYPE_CHECKING:
    from tests.faults.simulation.world import World


class FakeSpool:
    """The spool: what `add` returned from is on the drive to stay, as SQLite with `synchronous=FULL` keeps it."""

    world: World

    def __init__(self, path: FakePath, types: Collection[str] | None = None) -> None:
        self._path = path
        self._types = types

    def _mine(self) -> list[tuple[int, str, str, str]]:
        rows = self._rows()
        return [row for row in rows if self._types is None or type(decode_event(row[3])).__name__ in self._types]

    def _rows(self) -> list[tuple[int, str, str, str]]:
        disks = self.world.disks
        here().check()
        try:
            drive, parent, name, inode = disks.find(str(self._path), None)
        except OSError as error:
            raise sqlite3.OperationalError("disk I/O error") from error
        if inode is None:
            inode = parent.entries[name] = disks.inode(0o100600)
            inode.rows = []
        drive.sync_names()
        assert inode.rows is not None
        return inode.rows

    def add(self, stream: str, events: Sequence[NewEvent]) -> None:
        """Keep events until they are recorded."""
        rows = self._rows()
        if (self.world.disks.mounted or self.world.disks.nothing).full:
            raise sqlite3.OperationalError("database or disk is full")
        self.world.step(here(), "spool", "add")
        known = {row[1] for row in rows}
        for event in events:
            if str(event.id) not in known:
                self.world.spooled += 1
                rows.append((self.world.spooled, str(event.id), stream, encode_event(event.event)))

    def oldest(self) -> Waiting | None:
        """The oldest events that wait."""
        rows = self._mine()[:BATCH_EVENTS]
        if not rows:
            return None
        taken = [row for row in rows if row[2] == rows[0][2]]
        events = tuple(NewEvent(UUID(row[1]), decode_event(row[3])) for row in taken)
        return Waiting(rows[0][2], events, taken[-1][0])

    def forget(self, upto_number: int) -> None:
        """Drop the events up to this number."""
        rows = self._rows()
        mine = {row[0] for row in self._mine()}
        self.world.step(here(), "spool", "forget")
        rows[:] = [row for row in rows if row[0] > upto_number or row[0] not in mine]

    def is_empty(self) -> bool:
        """Whether nothing waits, of nobody."""
        return not self._rows()
