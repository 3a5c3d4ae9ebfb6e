"""The cookie of a session."""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.datastructures import Cookie

from services.api.askers import COOKIE
from shared.adapters.access import ABSOLUTE


def session_cookie(request: Request[Any, Any, Any], session: str) -> Cookie:
    """A cookie that no script reads, sent over TLS alone when it came so.

    SameSite is Lax, not Strict: with Strict whoever follows a link in an alert mail would seem to be logged out. A
    foreign page still cannot make a browser change anything, because Lax is not sent along with its POST.
    """
    return Cookie(
        key=COOKIE,
        value=session,
        path="/",
        max_age=int(ABSOLUTE.total_seconds()) if session else 0,
        httponly=True,
        samesite="lax",
        secure=request.scope["scheme"] == "https",
    )


def no_cookie(request: Request[Any, Any, Any]) -> Cookie:
    """What makes a browser forget it."""
    return session_cookie(request, "")
