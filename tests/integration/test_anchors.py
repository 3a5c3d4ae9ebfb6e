"""What the drive remembers of the log: a tail that was cut off, or a log made anew, is found by it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from services.cli.audit import check_chain
from shared.adapters.anchors import ANCHORS_FILE, Anchor, read_anchors, write_anchor
from shared.adapters.postgres import EventLog
from shared.adapters.store import Store
from shared.domain.names import StoreName
from tests.support.builders import alerts

AT = datetime(2026, 3, 6, 8, tzinfo=UTC)
EMPTY_IT = "DELETE FROM log.anchors WHERE position > $1", "DELETE FROM log.events WHERE position > $1"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store.create(tmp_path, StoreName("main"), uuid.uuid4())
    yield made
    made.close()


async def anchored(log: EventLog, store: Store) -> int:
    """Anchor the head as the snapshotter does; returns its position."""
    head = await log.anchor()
    assert head is not None
    write_anchor(store, Anchor(head[0], head[1].hex(), AT))
    return head[0]


async def cut_behind(admin: asyncpg.Connection, position: int) -> None:
    """What only the owner of the database can do, without leaving anything that the chain could show."""
    await admin.execute("ALTER TABLE log.events DISABLE TRIGGER ALL; ALTER TABLE log.anchors DISABLE TRIGGER ALL")
    for statement in EMPTY_IT:
        await admin.execute(statement, position)


async def test_an_anchored_log_that_grew_is_found_clean(log: EventLog, store: Store) -> None:
    await log.append("host-a", None, alerts(3))
    assert await anchored(log, store) == 3
    await log.append("host-a", None, alerts(2))
    assert await anchored(log, store) == 5
    assert (await check_chain(log, read_anchors(store))).findings == []


async def test_a_tail_cut_off_in_the_database_is_found_by_the_drive(
    log: EventLog, store: Store, admin: asyncpg.Connection
) -> None:
    await log.append("host-a", None, alerts(5))
    await anchored(log, store)
    await cut_behind(admin, 3)
    assert (await check_chain(log)).findings == []
    assert [finding.position for finding in (await check_chain(log, read_anchors(store))).findings] == [5]


async def test_a_log_made_anew_is_found_by_the_drive(log: EventLog, store: Store, admin: asyncpg.Connection) -> None:
    await log.append("host-a", None, alerts(5))
    await anchored(log, store)
    await cut_behind(admin, 0)
    await log.append("host-a", None, alerts(7))
    assert (await check_chain(log)).findings == []
    assert [finding.position for finding in (await check_chain(log, read_anchors(store))).findings] == [5]


async def test_an_empty_log_has_nothing_to_anchor(log: EventLog) -> None:
    assert await log.anchor() is None


def test_a_line_cut_off_by_a_crash_hides_no_other(store: Store) -> None:
    first, second = Anchor(1, "00" * 32, AT), Anchor(2, "11" * 32, AT)
    write_anchor(store, first)
    path = store.root / ANCHORS_FILE
    path.write_bytes(path.read_bytes() + b'\n{"position": 9, "ha')
    write_anchor(store, second)
    assert read_anchors(store) == [first, second]
