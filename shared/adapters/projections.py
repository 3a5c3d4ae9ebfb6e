"""Saved projections in Postgres: a cache of what the fold makes, of which nothing is ever believed unchecked."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from datetime import timedelta
from importlib import resources
from typing import Final

import msgspec
import zstandard

from shared.adapters.database import Wire
from shared.adapters.threads import in_thread
from shared.domain.errors import LogRefused
from shared.domain.host_state import EPOCH
from shared.domain.packed import FOLD_MODULES, Packed, from_bytes, shape_of, to_bytes
from shared.domain.saving import Mark

COMPRESSION_LEVEL: Final = 1
LARGEST_BYTES: Final = 1 << 30
FOREIGN_KEPT: Final = timedelta(days=7)
"""How long stays what other versions saved: they may still run beside this one, or be gone back to."""

BACKFILL_LOCK: Final = 7_215_083_442
"""Any number that nobody else in the database uses."""

# What was saved of another log, or of one that was changed since, has another hash at its position.
_NEWEST: Final = """
    SELECT p.position, p.recorded_at, p.sha256, p.content FROM log.projections p
      JOIN log.events e ON e.position = p.position AND e.hash = p.log_hash
     WHERE p.shape = $1 AND p.position <= $2 ORDER BY p.position DESC LIMIT 1"""
_SAVE: Final = """
    INSERT INTO log.projections (shape, position, recorded_at, log_hash, sha256, content)
    SELECT $1, e.position, e.recorded_at, e.hash, $3, $4 FROM log.events e WHERE e.position = $2
        ON CONFLICT DO NOTHING"""
_MARKS: Final = """
    SELECT p.position, (extract(epoch FROM p.recorded_at) * 1000000)::bigint FROM log.projections p
      JOIN log.events e ON e.position = p.position AND e.hash = p.log_hash WHERE p.shape = $1 ORDER BY p.position"""
_DROP: Final = "DELETE FROM log.projections WHERE shape = $1 AND position = ANY($2)"
_DROP_FOREIGN: Final = """
    DELETE FROM log.projections p WHERE (p.shape <> $1 AND p.saved_at < clock_timestamp() - $2::interval)
        OR NOT EXISTS (SELECT FROM log.events e WHERE e.position = p.position AND e.hash = p.log_hash)"""

log = logging.getLogger(__name__)


class Projections:
    """The saved projections of this version of the fold."""

    def __init__(self, dsn: str, shape: str | None = None) -> None:
        self._wire = Wire(dsn)
        self.shape = shape or current_shape()

    async def close(self) -> None:
        """Close the connection."""
        await self._wire.close()

    async def newest(self, upto: int) -> Packed | None:
        """The newest one at or before a position; damaged ones are dropped. Raises LogUnavailable."""
        while True:
            async with self._wire.use() as connection:
                row = await connection.fetchrow(_NEWEST, self.shape, upto)
            if row is None:
                return None
            packed = await in_thread(_read, row["content"], row["sha256"])
            if packed is not None:
                return packed
            log.warning("The projection saved at position %d is damaged; it will be made again.", row["position"])
            await self.drop([row["position"]])

    async def save(self, position: int, packed: Packed) -> None:
        """Save the state at a position; nothing happens when it is there already. Raises LogUnavailable."""
        content = await in_thread(_written, packed)
        digest = hashlib.sha256(content).digest()
        async with self._wire.use() as connection:
            await connection.execute(_SAVE, self.shape, position, digest, content)

    async def marks(self) -> list[Mark]:
        """What is saved, oldest first. Raises LogUnavailable."""
        async with self._wire.use() as connection:
            return [Mark(*row) for row in await connection.fetch(_MARKS, self.shape)]

    async def drop(self, positions: Sequence[int]) -> None:
        """Drop some, and what nobody can use any more. Raises LogUnavailable."""
        async with self._wire.use() as connection:
            await connection.execute(_DROP, self.shape, list(positions))
            await connection.execute(_DROP_FOREIGN, self.shape, FOREIGN_KEPT)

    async def mark_at(self, position: int) -> Mark:
        """When a position was recorded. Raises LogRefused and LogUnavailable."""
        async with self._wire.use() as connection:
            at = await connection.fetchval("SELECT recorded_at FROM log.events WHERE position = $1", position)
        if at is None:
            raise LogRefused(f"The log has no position {position}.")
        return Mark(position, (at - EPOCH) // timedelta(microseconds=1))

    async def try_lock(self) -> bool:
        """Whether nobody else fills the gaps; holds until `close`. Raises LogUnavailable."""
        async with self._wire.use() as connection:
            return bool(await connection.fetchval("SELECT pg_try_advisory_lock($1)", BACKFILL_LOCK))


def current_shape() -> str:
    """The shape of this version's fold."""
    folder = resources.files("shared.domain")
    return shape_of(folder.joinpath(f"{name}.py").read_bytes() for name in FOLD_MODULES)


def _written(packed: Packed) -> bytes:
    return zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compress(to_bytes(packed))


def _read(content: bytes, sha256: bytes) -> Packed | None:
    if hashlib.sha256(content).digest() != sha256:
        return None
    try:
        return from_bytes(zstandard.ZstdDecompressor().decompress(content, max_output_size=LARGEST_BYTES))
    except (zstandard.ZstdError, msgspec.MsgspecError):
        return None
