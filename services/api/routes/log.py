"""The log itself: how far it reaches, since when, and whether its chain holds."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from litestar import get

from services.api.chain import ChainState
from services.api.given import TheChain, TheLive, TheLog
from services.api.guard import NARROWED
from shared.domain.host_state import moment_of


class LogState(msgspec.Struct, frozen=True):
    """The log. `first_at` is null while it is empty."""

    position: int
    first_at: datetime | None
    newest_at: datetime | None
    is_away: bool
    chain: ChainState


@get("/api/log", summary="How far the log reaches, and whether its chain holds", opt={NARROWED: True})
async def log_state(live: TheLive, event_log: TheLog, chain: TheChain) -> LogState:
    """The state of the log."""
    first = [recorded async for page in event_log.pages(0, min(1, live.state.position)) for recorded in page]
    newest = moment_of(live.state.recorded_us) if live.state.position else None
    return LogState(
        live.state.position,
        moment_of(first[0].recorded_us) if first else None,
        newest,
        live.log_is_away,
        chain.state,
    )


ROUTES: Final = (log_state,)
