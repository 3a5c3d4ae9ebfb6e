"""The REST API. Everything that is read comes from the log; everything that is done goes over the bus."""

from __future__ import annotations

from typing import Any, Final

from services.api.routes import events, holds, hosts, log, now, runs, wishes

ROUTES: Final[tuple[Any, ...]] = (
    *now.ROUTES,
    *wishes.ROUTES,
    *hosts.ROUTES,
    *holds.ROUTES,
    *runs.ROUTES,
    *log.ROUTES,
    *events.ROUTES,
)
