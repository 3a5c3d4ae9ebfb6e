"""Who may talk to the API while it has no users: this machine alone, and no foreign page through its browser.

A page of somebody else can make a browser send requests to 127.0.0.1, under a name that it made point there. So
the Host must be one of this machine's own names, and what changes something must come from our own pages or from no
page at all.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from litestar.datastructures import Headers
from litestar.exceptions import PermissionDeniedException
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from services.api.marks import marked_headers

LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})
HARMLESS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class LocalOnly(ASGIMiddleware):
    """Refuses what does not come from this machine's own hands, and marks every answer."""

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Check a request and go on with it."""
        _check(str(scope.get("method", "GET")), Headers.from_scope(scope))

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = marked_headers(message["headers"])
            await send(message)

        await next_app(scope, receive, marked)


def _check(method: str, headers: Headers) -> None:
    host = headers.get("host", "")
    if _name(f"//{host}") not in LOCAL_NAMES:
        raise PermissionDeniedException(f"This API answers only to this machine, not to the name {host[:100]!r}.")
    if method in HARMLESS:
        return
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
    if site not in {"none", "same-origin"} or (origin is not None and _place(origin) != host):
        raise PermissionDeniedException("This request comes from a page of somebody else.")


def _place(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _name(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
