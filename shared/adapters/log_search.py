"""Finding events: by host, by type, by run, before a position, between two moments. Newest first.

Types and the order are written into the statement, not passed to it: only then does Postgres see that an index of
some types serves (0006_history.sql). They come from our own names, never from a reader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from shared.adapters.postgres import EventLog
from shared.domain.errors import LogUnavailable
from shared.domain.event import Event
from shared.domain.events import Recorded

MOST: Final = 1_000
PATIENCE_SECONDS: Final = 10.0


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for; what is left out does not matter. `before` is a position and `upto` one that is included."""

    types: Sequence[type[Event]] = ()
    stream: str | None = None
    run: UUID | None = None
    since: datetime | None = None
    upto: int | None = None
    before: int | None = None


async def find(events: EventLog, wanted: Wanted, limit: int) -> list[Recorded]:
    """The newest `limit` events of this kind. Raises LogUnavailable, also when it takes too long."""
    conditions, arguments = ["true"], list[object]()

    def when(condition: str, value: object) -> None:
        if value is not None:
            arguments.append(value)
            conditions.append(condition.format(f"${len(arguments)}"))

    if wanted.types:
        names = ", ".join(f"'{kind.__name__}'" for kind in wanted.types)
        conditions.append(f"type IN ({names})")
    when("stream = {}", wanted.stream)
    when("data->>'run' = {}", None if wanted.run is None else str(wanted.run))
    when("position > log.position_at({})", wanted.since)
    when("position <= {}", wanted.upto)
    when("position < {}", wanted.before)
    order = "position" if wanted.stream is None else "version"  # the same order, and each has its index
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await events.newest(" AND ".join(conditions), arguments, min(limit, MOST), order)
    except TimeoutError as error:
        raise LogUnavailable(
            "The search in the event log took too long.", "Ask for a shorter time or one host."
        ) from error
