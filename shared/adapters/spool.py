"""Events that wait for the log: one small SQLite file in each host's folder, durable before `add` returns.

All services of a host share the file. Each takes out only what it may append itself, so what one of them wrote in
another's name is never told under that name's role.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from shared.domain.events import NewEvent, decode_event, encode_event

BATCH_EVENTS: Final = 200
BUSY_TIMEOUT_SECONDS: Final = 10.0

_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS waiting (
        number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, stream TEXT NOT NULL, data TEXT NOT NULL
    )"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """The oldest waiting events of one stream, in order. `last_number` is the spool's number of the last one."""

    stream: str
    events: tuple[NewEvent, ...]
    last_number: int


class Spool:
    """The waiting events of one host, all of them or those of some types. Blocking: call it from a thread."""

    def __init__(self, path: Path, types: Collection[str] | None = None) -> None:
        self._path = path
        names = ", ".join(f"'{name}'" for name in sorted(types or ()))  # of our own classes
        of_these = f"CASE WHEN json_valid(data) THEN json_extract(data, '$.type') IN ({names}) ELSE 0 END"
        self._mine = "1" if types is None else of_these

    def add(self, stream: str, events: Sequence[NewEvent]) -> None:
        """Keep events until they are recorded; one that waits already is not added twice. Raises sqlite3.Error."""
        rows = [(str(event.id), stream, encode_event(event.event)) for event in events]
        with closing(self._open()) as database, database:
            database.executemany("INSERT OR IGNORE INTO waiting (id, stream, data) VALUES (?, ?, ?)", rows)

    def oldest(self) -> Waiting | None:
        """The oldest events that wait, as many as go into one append; None when none do."""
        with closing(self._open()) as database:
            rows = database.execute(
                f"SELECT number, id, stream, data FROM waiting WHERE {self._mine} ORDER BY number LIMIT ?",  # noqa: S608
                (BATCH_EVENTS,),
            ).fetchall()
        if not rows:
            return None
        stream = rows[0][2]
        taken = []
        for row in rows:
            if row[2] != stream:
                break
            taken.append(row)
        events = tuple(NewEvent(UUID(row[1]), decode_event(row[3])) for row in taken)
        return Waiting(stream, events, taken[-1][0])

    def forget(self, upto_number: int) -> None:
        """Drop the events up to this number: the log has them."""
        with closing(self._open()) as database, database:
            database.execute(f"DELETE FROM waiting WHERE number <= ? AND {self._mine}", (upto_number,))  # noqa: S608

    def is_empty(self) -> bool:
        """Whether nothing waits, of nobody. Raises sqlite3.Error."""
        with closing(self._open()) as database:
            return database.execute("SELECT 1 FROM waiting LIMIT 1").fetchone() is None

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=BUSY_TIMEOUT_SECONDS)
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute(_SCHEMA)
        except BaseException:
            database.close()
            raise
        return database
