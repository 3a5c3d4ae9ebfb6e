"""The audit finds every change of the log that goes behind the back of `append`, and nothing else.

The forger here is the strongest there is: the superuser, with triggers off and constraints dropped.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import pytest

from services.cli.audit import check_chain
from shared.adapters import postgres
from shared.adapters.postgres import EventLog
from shared.domain.audit import Finding
from shared.domain.events import encode_event
from tests.support.builders import EVENT_TYPES, alerts, new, one_of_each
from tests.support.servers import BOUND_SECONDS

pytestmark = pytest.mark.timeout(BOUND_SECONDS)

SEED: Final = 20260306
FLIPS_PER_COLUMN: Final = 32
STREAMS: Final = ("host-a", "host-b", "settings")
POSTGRES_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
COLUMNS: Final = ("position", "version", "recorded_at", "id", "stream", "type", "data", "meta", "hash")

CONSTRAINTS: Final = """
    SELECT conname FROM pg_constraint WHERE conrelid = 'log.events'::regclass AND contype IN ('p', 'u', 'c')"""
REWRITE: Final = """
    UPDATE log.events SET position = $2, version = $3, recorded_at = $4, id = $5, stream = $6, type = $7, data = $8,
                          meta = $9, hash = $10 WHERE ctid = $1::text::tid RETURNING ctid::text"""
Row = dict[str, Any]

WRITTEN: Final = len(STREAMS) * len(EVENT_TYPES) + 6
"""Events in the log of these tests."""

WHOLE: Final = WRITTEN + 6
"""And with those that carry metadata."""


@pytest.fixture
async def written(log: EventLog) -> EventLog:
    """A log of WRITTEN events of all types in three streams, some with metadata."""
    for turn in range(3):
        for stream in STREAMS:
            await log.append(stream, None, [new(event) for event in one_of_each()[turn::3]])
    await log.append("host-c", None, alerts(6))
    return log


@pytest.fixture
async def forger(written: EventLog, admin: asyncpg.Connection) -> asyncpg.Connection:
    """The superuser with everything out of the way; all events carry metadata and the newest one is anchored."""
    await admin.execute(
        "SELECT log.append('host-a', NULL, $1, $2, $3, $4)",
        [uuid4() for _ in range(6)],
        ["AlertRaised"] * 6,
        [encode_event(event.event) for event in alerts(6)],
        ['{"by":"alice","from":"10.0.0.7"}'] * 6,
    )
    await anchor(admin)
    await admin.execute("SET session_replication_role = replica")
    for row in await admin.fetch(CONSTRAINTS):
        await admin.execute(f"ALTER TABLE log.events DROP CONSTRAINT {row['conname']} CASCADE")
    return admin


async def anchor(admin: asyncpg.Connection) -> None:
    """Anchor the end of the log as it is."""
    await admin.execute(
        "INSERT INTO log.anchors (position, hash) SELECT position, hash FROM log.events ORDER BY position DESC LIMIT 1"
    )


async def findings(log: EventLog) -> list[Finding]:
    return (await check_chain(log)).findings


def flip_number(value: int, bit: int) -> int:
    """A 64-bit number with one bit changed, in two's complement."""
    return int.from_bytes(((value ^ 1 << bit) & (1 << 64) - 1).to_bytes(8, "big"), "big", signed=True)


def flip_moment(value: datetime, bit: int) -> datetime:
    """A moment with one bit of what Postgres stores changed; those beyond the year 9999 are left out."""
    microseconds = (value - POSTGRES_EPOCH) // timedelta(microseconds=1)
    return POSTGRES_EPOCH + timedelta(microseconds=microseconds ^ 1 << (bit % 56))


def flip_bytes(value: bytes, bit: int) -> bytes:
    flipped = bytearray(value)
    flipped[bit // 8 % len(value)] ^= 1 << bit % 8
    return bytes(flipped)


def flip_text(value: str, bit: int) -> str:
    return flip_bytes(value.encode(), bit).decode()


def flip_id(value: UUID, bit: int) -> UUID:
    return UUID(bytes=flip_bytes(value.bytes, bit))


FLIPS: Final[dict[str, tuple[Callable[[Any, int], Any], int]]] = {
    "position": (flip_number, 64),
    "version": (flip_number, 64),
    "recorded_at": (flip_moment, 56),
    "id": (flip_id, 128),
    "stream": (flip_text, 6 * 8),
    "type": (flip_text, 9 * 8),
    "data": (flip_text, 10_000),
    "meta": (flip_text, 32 * 8),
    "hash": (flip_bytes, 256),
}


async def rewrite(forger: asyncpg.Connection, place: str, row: Row) -> str:
    """Write a row over the one at this place of the table; returns where it is now."""
    return str(await forger.fetchval(REWRITE, place, *(row[column] for column in COLUMNS)))


async def flipped(forger: asyncpg.Connection, row: Row, column: str, part: int, chance: random.Random) -> str:
    """Flip one bit that the column can hold, of this part of all bits; returns where the row is now."""
    flip, bits = FLIPS[column]
    bit = bits * part // FLIPS_PER_COLUMN + chance.randrange(max(1, bits // FLIPS_PER_COLUMN))
    while True:
        try:
            changed = {**row, column: flip(row[column], bit)}
            return await rewrite(forger, row["place"], changed)
        except (UnicodeDecodeError, asyncpg.CharacterNotInRepertoireError, asyncpg.InvalidTextRepresentationError):
            bit = chance.randrange(bits)  # no UTF-8 or no JSON any more: such a bit cannot be stored


def names(found: list[Finding], position: int) -> bool:
    """Whether a position is named, by its number or as missing."""
    gone = f"positions {position} to {position} are missing"
    return any(finding.position == position or finding.sentence == gone for finding in found)


async def test_a_log_that_nobody_touched_has_no_findings(
    written: EventLog, admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await anchor(admin)
    chain = await check_chain(written)
    assert chain.findings == []
    assert chain.position == await written.head() == WRITTEN
    monkeypatch.setattr(postgres, "PAGE_EVENTS", 7)
    assert (await check_chain(written)).head == chain.head
    assert (await check_chain(written)).findings == []


async def test_an_empty_log_has_no_findings(log: EventLog) -> None:
    assert await findings(log) == []


@pytest.mark.parametrize("column", COLUMNS)
async def test_a_single_flipped_bit_in_any_column_of_any_event_is_found_and_named(
    column: str, written: EventLog, forger: asyncpg.Connection
) -> None:
    chance = random.Random(f"{SEED} {column}")  # noqa: S311  # nothing is kept secret here
    for part in range(FLIPS_PER_COLUMN):
        rows = await forger.fetch("SELECT ctid::text AS place, * FROM log.events ORDER BY position")
        kept = dict(chance.choice(rows[-6:] if column == "meta" else rows))
        place = await flipped(forger, kept, column, part, chance)
        found = await findings(written)
        assert names(found, kept["position"]), f"{kept['position']} is not named by {found}"
        assert len({finding.position for finding in found}) <= 4, "what is not damaged was named as well"
        await rewrite(forger, place, kept)
    assert await findings(written) == []


async def test_a_deleted_row_is_found_wherever_it_was(written: EventLog, forger: asyncpg.Connection) -> None:
    for position in (1, 2, 30, WHOLE - 1, WHOLE):
        async with undone(forger):
            await forger.execute("DELETE FROM log.events WHERE position = $1", position)
            assert names(await findings(written), position)
    assert await findings(written) == []


class undone:  # noqa: N801  # reads as a word
    """Puts the table back afterwards: the audit reads through other connections, so a rollback would not do."""

    def __init__(self, forger: asyncpg.Connection) -> None:
        self._forger = forger

    async def __aenter__(self) -> None:
        await self._forger.execute("CREATE TEMPORARY TABLE kept AS TABLE log.events")

    async def __aexit__(self, *_: object) -> None:
        await self._forger.execute("DELETE FROM log.events; INSERT INTO log.events SELECT * FROM kept; DROP TABLE kept")


async def test_a_cut_tail_is_found_by_an_anchor_and_by_nothing_else(
    written: EventLog, forger: asyncpg.Connection
) -> None:
    await forger.execute("DELETE FROM log.events WHERE position > 50")
    found = await findings(written)
    assert [finding.position for finding in found] == [WHOLE]
    assert "end of the log is missing" in found[0].sentence
    await forger.execute("DELETE FROM log.anchors")
    assert await findings(written) == []


async def test_a_log_that_was_emptied_is_found_by_an_anchor(written: EventLog, forger: asyncpg.Connection) -> None:
    await forger.execute("DELETE FROM log.events")
    assert [finding.position for finding in await findings(written)] == [WHOLE]


async def test_a_log_written_anew_with_right_hashes_is_found_by_an_anchor(
    written: EventLog, forger: asyncpg.Connection
) -> None:
    await forger.execute("DELETE FROM log.events")
    await written.append("host-a", 0, alerts(WHOLE + 20))
    found = await findings(written)
    assert [finding.position for finding in found] == [WHOLE]
    assert "not the one that was anchored" in found[0].sentence


@pytest.mark.parametrize(("one", "other"), [(5, 6), (1, WHOLE), (17, 40), (WHOLE - 1, WHOLE)])
async def test_two_swapped_rows_are_both_named(
    one: int, other: int, written: EventLog, forger: asyncpg.Connection
) -> None:
    await forger.execute("UPDATE log.events SET position = $1 + $2 - position WHERE position IN ($1, $2)", one, other)
    found = await findings(written)
    assert names(found, one)
    assert names(found, other)


async def test_an_inserted_row_is_found(written: EventLog, forger: asyncpg.Connection) -> None:
    for position in (30, 61, 0x7FFF_FFFF_FFFF_FFFF):
        async with undone(forger):
            await forger.execute(
                "INSERT INTO log.events (position, version, recorded_at, id, stream, type, data, meta, hash)"
                " SELECT $1, version, recorded_at, gen_random_uuid(), stream, type, data, meta, hash"
                " FROM log.events WHERE position = 30",
                position,
            )
            assert names(await findings(written), position)


async def test_bytes_moved_between_data_and_meta_are_found(written: EventLog, forger: asyncpg.Connection) -> None:
    await forger.execute("UPDATE log.events SET data = meta, meta = data WHERE position = 20")
    assert names(await findings(written), 20)
    await forger.execute("UPDATE log.events SET data = meta, meta = data WHERE position = 20")
    assert await findings(written) == []
