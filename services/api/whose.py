"""What whoever asks is given: their own view of the settings and of the state, and what templates know of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from litestar import Request

from shared.config import Settings
from shared.domain.access import NOBODY, Permission, Who, sees, visible
from shared.domain.events import Recorded
from shared.domain.projection import State
from shared.domain.veil import veiled


def who_asks(request: Request[Any, Any, Any]) -> Who:
    """Who sent a request."""
    who: Who = request.user
    return who


def who_looks(context: Mapping[str, Any], /) -> Who:
    """Who looks at a page: `{{ who().user }}` in a template."""
    request = context.get("request")
    who: Who = request.scope.get("user", NOBODY) if request is not None else NOBODY
    return who


def settings_for(settings: Settings) -> Callable[[Request[Any, Any, Any]], Settings]:
    """The settings with the hosts that exist for whoever asks: to handlers, the others are not there."""

    def theirs(request: Request[Any, Any, Any]) -> Settings:
        who: Who = request.user
        if who.hosts is None:
            return settings
        return msgspec.structs.replace(settings, hosts=tuple(one for one in settings.hosts if sees(who, one.name)))

    return theirs


def state_for(who: Who, state: State) -> State:
    """The state with the hosts that exist for whoever asks."""
    if who.hosts is None:
        return state
    return msgspec.structs.replace(
        state,
        hosts={name: state.hosts[name] for name in visible(state.hosts, who)},
        host_of_stream={},
        settings={},
    )


def shown_to(who: Who, recorded: Recorded) -> Recorded:
    """An event as whoever asks may see it: the names of backed-up files are not for everybody."""
    if who.may(Permission.READ_FILES):
        return recorded
    return msgspec.structs.replace(recorded, event=veiled(recorded.event))
