"""What no route should have to think of: paths that no file has, and bodies of another kind than the route reads.

A body of another kind is refused and not guessed at: a page of somebody else can send `text/plain` without being
asked whether it may, and a form without a single field would still press the button it was sent to.
"""

from __future__ import annotations

from typing import Final

from litestar.datastructures import Headers
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException, NotFoundException
from litestar.middleware import ASGIMiddleware
from litestar.routes import HTTPRoute
from litestar.types import ASGIApp, Message, Receive, Scope, Send

LONGEST_NAME: Final = 255
JSON: Final = frozenset({"application/json"})
FORMS: Final = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})


class UnknownKind(HTTPException):
    """The body is of a kind that is not read here."""

    status_code = 415


class WellFormed(ASGIMiddleware):
    """Refuses what is not a request of ours, before any route looks at it."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Check a request and go on with it."""
        _check_path(scope["path"])
        _check_kind(scope["path"], Headers.from_scope(scope))
        await next_app(scope, receive, _with_all_methods(scope, send) if scope.get("method") == "OPTIONS" else send)


def _with_all_methods(scope: Scope, send: Send) -> Send:
    """The framework's own answer forgets the methods that were registered after the first."""
    routes = (route for route in scope["litestar_app"].routes if isinstance(route, HTTPRoute))
    methods = sorted(
        {str(one) for route in routes if route.path_format == scope["path_template"] for one in route.methods}
    )

    async def complete(message: Message) -> None:
        if message["type"] == "http.response.start" and methods:
            others = [(name, value) for name, value in message["headers"] if name.lower() != b"allow"]
            message["headers"] = [*others, (b"allow", ", ".join(methods).encode())]
        await send(message)

    return complete


def _check_path(path: str) -> None:
    too_long = path.startswith("/static/") and any(len(name.encode()) > LONGEST_NAME for name in path.split("/"))
    if "\0" in path or too_long:
        raise NotFoundException("There is nothing of this name.")


def _check_kind(path: str, headers: Headers) -> None:
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return
    wanted = JSON if path.startswith("/api/") else FORMS
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in wanted:
        raise UnknownKind(f"The body has to be {' or '.join(sorted(wanted))}, not {kind[:60]!r}.")
