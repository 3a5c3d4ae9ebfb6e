"""What requests are asked with: names in paths, a moment, and the hosts that they speak of."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, TypeAlias

from litestar.params import FromPath, QueryParameter

from services.api.live import Live
from services.api.problems import NotThere
from shared.config import Settings
from shared.domain.host_state import HostState
from shared.domain.names import HostName, parse_host_name

At = Annotated[
    datetime | None, QueryParameter(description="The moment to show, in ISO 8601; now when left out.", required=False)
]
Name: TypeAlias = FromPath[str]


async def state_of(live: Live, settings: Settings, host: str, at: datetime | None) -> HostState:
    """What is known of a host, now or at a moment. Raises NotThere and LogUnavailable."""
    return (await live.as_of(at)).hosts.get(known_host(settings, host), HostState())


def known_host(settings: Settings, name: str) -> HostName:
    """The host of this name. Raises NotThere."""
    host = parse_host_name(name)
    if settings.host(host) is None:
        raise NotThere(f"There is no host {name!r}.", "GET /api/hosts lists them.")
    return host
