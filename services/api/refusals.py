"""How a refusal looks: a program gets a problem, a person the way to log in, or a page that says why."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from litestar import Request, Response
from litestar.response import Redirect, Template

from services.api.problems import AccessDenied, LoginNeeded, of_ours
from shared.domain.wording import printable


def is_for_programs(request: Request[Any, Any, Any]) -> bool:
    """Whether a path belongs to the API, not to a page."""
    return request.scope["path"].startswith("/api/")


def of_login_needed(request: Request[Any, Any, Any], error: LoginNeeded) -> Response[Any]:
    """A person logs in and comes back to the page that was asked for."""
    if is_for_programs(request):
        response: Response[Any] = of_ours(request, error)
        response.headers["WWW-Authenticate"] = "Bearer"
        return response
    query = request.scope["query_string"].decode("latin-1")
    asked = request.scope["path"] + (f"?{query}" if query else "")
    wanted = f"?{urlencode({'next': asked})}" if request.method == "GET" and asked != "/" else ""
    return Redirect(f"/login{wanted}", status_code=303)


def of_access_denied(request: Request[Any, Any, Any], error: AccessDenied) -> Response[Any]:
    """A person reads why, on a page."""
    if is_for_programs(request):
        return of_ours(request, error)
    context = {"message": printable(error.message), "hint": error.hint}
    return Template("refused.html", context=context, status_code=403)
