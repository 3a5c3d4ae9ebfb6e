"""The first state of a process: the newest saved projection; without one, the log read by several processes at once.

What happened since is left to whoever follows the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable
from typing import Final

import msgspec

from shared.adapters import process
from shared.adapters.postgres import EventLog
from shared.adapters.projections import Projections
from shared.adapters.threads import in_thread
from shared.domain.errors import BackupManagerError
from shared.domain.packed import Packed, from_bytes, joined, unpack
from shared.domain.projection import State

WORTH_PROCESSES_EVENTS: Final = 300_000
"""Fewer are read in a second anyway."""
MOST_PARTS: Final = 4
PART_SECONDS: Final = 1_800.0
HOSTS_AT_ONCE: Final = 4
"""After so many, a few milliseconds, others have their turn."""

log = logging.getLogger(__name__)


async def first_state(events: EventLog, saved: Projections, dsn: str, heard: Callable[[int, int], None]) -> State:
    """The state to begin with. `heard` is told how much of how much was read. Raises LogUnavailable and LogRefused."""
    head = await events.head()
    state = await restored(saved, head)
    if head - state.position < WORTH_PROCESSES_EVENTS or state.position:
        return state
    parts = min(MOST_PARTS, len(os.sched_getaffinity(0)))
    if parts == 1:
        return state
    try:
        return await unpacked(await _folded(dsn, parts, head, heard))
    except (BackupManagerError, msgspec.MsgspecError, TimeoutError) as error:
        log.warning("The log is read by one process, because several could not: %s", error)
        return state


async def restored(saved: Projections, upto: int) -> State:
    """The newest saved state at or before a position; an empty one when there is none. Raises LogUnavailable."""
    packed = await saved.newest(upto)
    if packed is not None:
        with contextlib.suppress(msgspec.MsgspecError):
            return await unpacked(packed)
    return State()


async def unpacked(packed: Packed) -> State:
    """The state of a packed one, without holding anybody up. Raises msgspec.MsgspecError."""
    state = State()
    for number, _ in enumerate(unpack(packed, state)):
        if number % HOSTS_AT_ONCE == 0:
            await asyncio.sleep(0)
    return state


async def _folded(dsn: str, parts: int, upto: int, heard: Callable[[int, int], None]) -> Packed:
    positions = [0] * parts

    async def part(number: int) -> Packed:
        def hear(words: bytes) -> None:
            if (told := words.split()) and told[-1].isdigit():
                positions[number] = int(told[-1])
                heard(min(positions), upto)

        return await _part(dsn, [str(number), str(parts), str(upto)], hear)

    return joined(await asyncio.gather(*(part(number) for number in range(parts))))


async def _part(dsn: str, words: list[str], hear: Callable[[bytes], None]) -> Packed:
    place = os.memfd_create("part")  # a pipe would make everybody wait for a piece at a time
    try:
        words = ["part", str(place), *words]
        argv = process.dying_with_parent([sys.executable, "-m", "services.api.fold_worker", *words])
        environment = {**os.environ, "POSTGRES_DSN": dsn}
        async with asyncio.timeout(PART_SECONDS):
            async with await process.start(argv, env=environment, pass_fds=[place], hear=hear) as running:
                if code := await running.wait():
                    raise BackupManagerError(f"A process that read a part of the log ended with exit code {code}.")
        return await in_thread(_read, place)
    finally:
        os.close(place)


def _read(place: int) -> Packed:
    with os.fdopen(os.dup(place), "rb") as file:
        file.seek(0)
        return from_bytes(file.read())
