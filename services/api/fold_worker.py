"""`python -m services.api.fold_worker`: a process beside the API that folds where the API must not be held up.

`part PLACE NUMBER PARTS UPTO` folds a part of the hosts and writes their state to the descriptor PLACE; `gaps` saves
the projections that are missing in the past. The database is that of POSTGRES_DSN.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Final

import uvloop

from shared.adapters.clock import SystemClock
from shared.adapters.log_parts import LogPart
from shared.adapters.postgres import EventLog
from shared.adapters.projections import Projections
from shared.domain.errors import BackupManagerError
from shared.domain.packed import pack, to_bytes, unpack
from shared.domain.projection import State, evolve_page
from shared.domain.saving import Mark, first_gap, is_due

NICENESS: Final = 10
PAGES_BETWEEN_WORDS: Final = 50


async def fold_part(dsn: str, part: int, parts: int, upto: int) -> bytes:
    """The packed state of a part of the hosts at a position. Says on stderr how far it is."""
    events, state = LogPart(dsn, part, parts), State()
    try:
        pages = 0
        async for page in events.pages(0, upto):
            evolve_page(state, page)
            pages += 1
            if pages % PAGES_BETWEEN_WORDS == 0:
                sys.stderr.write(f"{state.position}\n")
                sys.stderr.flush()
    finally:
        await events.close()
    return to_bytes(pack(state))


async def fill_gaps(events: EventLog, saved: Projections, now_us: int) -> int:
    """Save the projections that are missing in the past; returns how many were."""
    count = 0
    if not (head := await events.head()) or not await saved.try_lock():
        return count
    end = await saved.mark_at(head)
    while gap := first_gap(await saved.marks(), end, now_us):
        made = await _fill(events, saved, gap[0], gap[1], now_us)
        count += made
        if not made:
            break
    return count


async def _fill(events: EventLog, saved: Projections, start: Mark, end: Mark, now_us: int) -> int:
    state, last, count = State(), start, 0
    if start.position and (packed := await saved.newest(start.position)) is not None:
        for _ in unpack(packed, state):
            pass
    async for page in events.pages(state.position, end.position):
        evolve_page(state, page)
        here = Mark(state.position, state.recorded_us)
        if here.position < end.position and is_due(last, here, now_us):
            await saved.save(here.position, pack(state))
            last, count = here, count + 1
    return count


async def _gaps(dsn: str) -> None:
    os.nice(NICENESS)
    events, saved = EventLog(dsn), Projections(dsn)
    try:
        await fill_gaps(events, saved, SystemClock().unix_ms() * 1000)
    finally:
        await asyncio.gather(events.close(), saved.close())


def main(words: Sequence[str]) -> int:
    """Do what the words say; returns the exit code."""
    dsn = os.environ["POSTGRES_DSN"]
    try:
        match words:
            case ["part", place, part, parts, upto]:
                content = uvloop.run(fold_part(dsn, int(part), int(parts), int(upto)))
                with os.fdopen(int(place), "wb") as file:
                    file.write(content)
            case ["gaps"]:
                uvloop.run(_gaps(dsn))
            case _:
                return 2
    except BackupManagerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
