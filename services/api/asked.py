"""What requests are asked with: names in paths, a moment, and the hosts that they speak of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final, TypeAlias

from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter

from services.api.live import Live
from services.api.problems import NotThere
from shared.config import Settings
from shared.domain.errors import MessageRefused
from shared.domain.host_state import HostState
from shared.domain.names import HostName, parse_host_name

FIRST_MOMENT: Final = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MOMENT: Final = datetime(2999, 12, 31, tzinfo=UTC)

At: TypeAlias = NamedDependency[datetime | None]
"""The moment that a route is asked for: name the parameter `at`."""
Moment = Annotated[
    str,
    QueryParameter(
        name="at",
        max_length=64,
        description="The moment to show, in ISO 8601, of UTC without an offset; now when left out.",
    ),
]
Name: TypeAlias = FromPath[str]


def given_at(moment: Moment = "") -> datetime | None:
    """The moment of the query, on the time line that everything else is on. Raises MessageRefused."""
    if not moment:
        return None
    try:
        at = datetime.fromisoformat(moment)
    except ValueError as error:
        raise MessageRefused(f"at is no moment: {moment!r}.", "Write it like 2026-03-06T08:00Z.") from error
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    if not FIRST_MOMENT <= at <= LAST_MOMENT:
        raise MessageRefused(f"There is nothing to show of {moment}.", "at lies between 1970 and 2999.")
    return at.astimezone(UTC)


async def state_of(live: Live, settings: Settings, host: str, at: datetime | None) -> HostState:
    """What is known of a host, now or at a moment. Raises NotThere and LogUnavailable."""
    return (await live.as_of(at)).hosts.get(known_host(settings, host), HostState())


def known_host(settings: Settings, name: str) -> HostName:
    """The host of this name. Raises NotThere."""
    host = parse_host_name(name)
    if settings.host(host) is None:
        raise NotThere(f"There is no host {name!r}.", "GET /api/hosts lists them.")
    return host
