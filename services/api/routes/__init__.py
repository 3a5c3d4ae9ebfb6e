"""The REST API. Everything that is read comes from the log; everything that is done goes over the bus."""

from __future__ import annotations

from typing import Any, Final

from services.api.routes import access, events, files, holds, hosts, log, now, restores, runs, wishes

ROUTES: Final[tuple[Any, ...]] = (
    *now.ROUTES,
    *wishes.ROUTES,
    *hosts.ROUTES,
    *holds.ROUTES,
    *runs.ROUTES,
    *log.ROUTES,
    *events.ROUTES,
    *files.ROUTES,
    *restores.ROUTES,
    *access.ROUTES,
)
