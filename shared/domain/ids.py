"""Ids that can be derived again, so that a retry cannot record a fact twice.

A run's id is a UUIDv7 (RFC 9562, section 5.7) whose last 16 bits are zero; the event of step n of the run
has the same id with n in those bits.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from uuid import UUID

MAX_STEP = 0xFFFF


def run_id(unix_ms: int, random_bits: int) -> UUID:
    """The UUIDv7 of a run that begins at `unix_ms` (milliseconds since 1970, UTC), with 58 bits of randomness."""
    rand_a = (random_bits >> 46) & 0xFFF
    rand_b = random_bits & ((1 << 46) - 1)
    value = (unix_ms & ((1 << 48) - 1)) << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b << 16
    return UUID(int=value)


def moment_of_run(run: UUID) -> datetime:
    """When a run began, by the clock of its worker."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=run.int >> 80)


def event_id(run: UUID, step: int) -> UUID:
    """The id of the event of a run's step (1 to 65,535)."""
    if not 0 < step <= MAX_STEP:
        raise ValueError(f"a run has 1 to {MAX_STEP} steps, not {step}")
    return UUID(int=run.int | step)


def derived_id(*parts: str) -> UUID:
    """An id that depends on nothing but its parts (a UUIDv8 of their SHA-256): the same fact, the same id."""
    digest = hashlib.sha256("\x00".join(parts).encode()).digest()
    value = int.from_bytes(digest[:16], "big")
    value = value & ~(0xF << 76) | 0x8 << 76
    return UUID(int=value & ~(0b11 << 62) | 0b10 << 62)
