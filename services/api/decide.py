"""Decisions of people about one host: made on what is known, recorded only if nothing changed meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from services.api.live import Live
from services.api.problems import AlreadyRunning
from shared.adapters.postgres import EventLog
from shared.domain.errors import LogConflict
from shared.domain.events import AnyEvent, NewEvent
from shared.domain.host_state import HostState
from shared.domain.ids import derived_id
from shared.domain.names import HostName, host_stream

TRIES: Final = 5
PATIENCE_SECONDS: Final = 2.0


async def decide(live: Live, events: EventLog, host: HostName, decision: Callable[[HostState], AnyEvent]) -> HostState:
    """Record what `decision` makes of the host's state; it is asked again when the state has moved on.

    Returns the state that knows of it. Raises what the decision raises, LogUnavailable, and AlreadyRunning when the
    host's state never rests.
    """
    for _ in range(TRIES):
        position = live.state.position
        state = live.state.hosts.get(host, HostState())
        fact = decision(state)
        identity = derived_id("decided", type(fact).__name__, host, str(state.version))
        try:
            appended = await events.append(host_stream(host), state.version, [NewEvent(identity, fact)])
        except LogConflict:
            await live.change_after(position, PATIENCE_SECONDS)
            continue
        await live.change_after(appended.first_position - 1, PATIENCE_SECONDS)
        return live.state.hosts.get(host, state)
    raise AlreadyRunning(f"{host} is changing all the time.", "Try again in a moment.")
