"""Who may ask for what. Every request passes here before its handler, and every answer on its way out.

While there are no users this machine alone is answered, under its own names: a page of somebody else can make a
browser send requests to 127.0.0.1, under a name that it made point there. With users a log-in does that better,
because a browser keeps the cookie of another name to itself.

Against requests that a foreign page makes a logged-in browser send (CSRF) there is no hidden field in the forms. A
browser says itself where a request comes from, in Sec-Fetch-Site or Origin, which no page can change; what changes
something must come from our own pages, and with a session it must say so. Sec-Fetch-Site, and Origin where a browser
is too old for it, is what Go's net/http.CrossOriginProtection relies on (go.dev/issue/73626), and what OWASP's
"Cross-Site Request Forgery Prevention" cheat sheet offers in place of tokens. The session's cookie (SameSite=Lax) is
not sent along with a foreign POST either. A program with a token has no cookie to abuse.
"""

from __future__ import annotations

import ipaddress
from typing import Any, Final
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection
from litestar.datastructures import Headers
from litestar.exceptions import PermissionDeniedException
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from services.api.askers import Askers, session_of
from services.api.marks import marked_headers
from services.api.problems import AccessDenied, LoginNeeded, NotThere
from services.api.watched import Watched
from shared.adapters.clock import SystemClock
from shared.domain.access import NOBODY, Permission, Who, lowest_role, needed, sees
from shared.domain.errors import LogUnavailable

HARMLESS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
OF_PROXIES: Final = ("x-forwarded-for", "x-forwarded-host", "x-real-ip", "forwarded", "via")
NARROWED: Final = "narrowed"
"""`opt={"narrowed": True}`: the route shows nothing of hosts that the asker does not see, though it names none."""


async def mark(message: Message, _: Scope) -> None:
    """Put the headers that protect a browser on an answer, whoever made it."""
    if message["type"] == "http.response.start":
        message["headers"] = marked_headers(message["headers"])


class Guard(ASGIMiddleware):
    """Lets a request through when whoever sent it may have what it asks for."""

    def __init__(self, askers: Askers, clock: SystemClock) -> None:
        self._askers = askers
        self._clock = clock

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Check a request and go on with it."""
        method, handler = str(scope.get("method", "GET")), scope["route_handler"]
        connection: ASGIConnection[Any, Any, Any, Any] = ASGIConnection(scope)
        permission = needed(method, handler.opt)
        who = scope["user"] = await self._who(scope, permission)
        if not await self._answers_any_name():
            _check_name(connection.headers)
        _check_origin(method, connection.headers, has_session=bool(session_of(connection)))
        _check_permission(who, permission)
        _check_hosts(who, permission, scope["path_params"], narrowed=bool(handler.opt.get(NARROWED)))

        async def still() -> bool:
            now = await self._askers.who(scope)
            return now.may(permission) and (now.user, now.hosts) == (who.user, who.hosts)

        await next_app(scope, receive, Watched(send, still, self._clock).send)

    async def _who(self, scope: Scope, permission: Permission) -> Who:
        try:
            return await self._askers.who(scope)
        except LogUnavailable:
            if permission is Permission.PUBLIC:
                return NOBODY
            raise

    async def _answers_any_name(self) -> bool:
        try:
            return await self._askers.has_users()
        except LogUnavailable:
            return False


def _check_name(headers: Headers) -> None:
    host = headers.get("host", "")
    if not _is_local(_name(f"//{host}")):
        raise PermissionDeniedException(f"This API answers only to this machine, not to the name {host[:100]!r}.")
    if any(name in headers for name in OF_PROXIES):
        raise PermissionDeniedException(
            "This request came through a proxy. Until there are users, only this machine may."
        )


def _is_local(name: str) -> bool:
    """Whether a name means this machine, whoever is asked: a number does, a name that somebody made point here not."""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _check_origin(method: str, headers: Headers, *, has_session: bool) -> None:
    if method in HARMLESS:
        return
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if site is not None:
        is_ours = site in {"none", "same-origin"}
    else:
        is_ours = origin is None or _place(origin) == headers.get("host", "")
    if not is_ours:
        raise PermissionDeniedException("This request comes from a page of somebody else.")
    if has_session and origin is None and site is None:
        raise PermissionDeniedException(
            "This request has a session and does not say which page it comes from. Programs use a token instead."
        )


def _check_permission(who: Who, permission: Permission) -> None:
    if who.may(permission):
        return
    if not who.user:
        raise LoginNeeded("This needs a log-in.", "Log in, or send a token: `Authorization: Bearer bm_…`.")
    raise AccessDenied(
        f"{who.user} may not do this: it needs the role {lowest_role(permission)}.", "Ask an admin for it."
    )


def _check_hosts(who: Who, permission: Permission, params: dict[str, Any], *, narrowed: bool) -> None:
    """What a user with some hosts only may ask: what names one of them, and what was made to show no others."""
    if who.hosts is None or permission is Permission.PUBLIC:
        return
    host = params.get("host")
    if host is None and not narrowed:
        raise AccessDenied(f"{who.user} sees some hosts only, and this is about all of them.", "Ask an admin for it.")
    if host is not None and not sees(who, str(host)):
        raise NotThere(f"There is no host {host!r}.", "GET /api/hosts lists them.")


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
