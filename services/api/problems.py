"""Errors with a sentence and a next step: application/problem+json for programs (RFC 9457), a page for browsers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException
from litestar.response import Template

from services.api.marks import marks
from shared.adapters.disk_work import DriveSlow
from shared.adapters.jetstream import BusUnavailable
from shared.adapters.passwords import TooManyPasswords
from shared.adapters.point_tree import PathMissing, PathRefused, PointMissing
from shared.domain.errors import (
    AccessRefused,
    BackupManagerError,
    LogUnavailable,
    MessageRefused,
    NameRefused,
    PasswordRefused,
    PointInUse,
    StoreNotMounted,
    StoreRefused,
    StoreUnknown,
)
from shared.domain.restore_request import RestoreEnded, RestoreRefused

MEDIA_TYPE: Final = "application/problem+json"

log = logging.getLogger(__name__)


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong: `detail` is a sentence, `hint` the next step."""

    title: str
    status: int
    detail: str
    hint: str = ""


class NotThere(BackupManagerError):
    """What was asked for does not exist."""


class Gone(BackupManagerError):
    """What was asked for existed, and was removed."""


class TooMuch(BackupManagerError):
    """What was asked for is more than can be given in this way."""


class LoginNeeded(BackupManagerError):
    """Whoever asks has to log in first."""


class AccessDenied(BackupManagerError):
    """Whoever asks may not have it."""


class AlreadyRunning(BackupManagerError):
    """What was asked for is pending or running already."""


STATUS_OF: Final[dict[type[BackupManagerError], int]] = {
    NotThere: 404,
    NameRefused: 404,
    PointMissing: 404,
    PathMissing: 404,
    PathRefused: 403,
    Gone: 410,
    PointInUse: 409,
    TooMuch: 413,
    DriveSlow: 503,
    StoreRefused: 503,
    StoreNotMounted: 503,
    StoreUnknown: 503,
    LoginNeeded: 401,
    AccessDenied: 403,
    AlreadyRunning: 409,
    AccessRefused: 409,
    PasswordRefused: 400,
    TooManyPasswords: 429,
    MessageRefused: 400,
    RestoreRefused: 400,
    RestoreEnded: 409,
    LogUnavailable: 503,
    BusUnavailable: 503,
}


IN_WORDS: Final = {
    400: ("That was not understood", "hand"),
    401: ("Who are you?", "lock"),
    403: ("You may not do this", "lock"),
    404: ("Nothing is here", "judge"),
    405: ("That was not understood", "hand"),
    409: ("Not now", "clock"),
    410: ("It was removed", "judge"),
    429: ("Not so fast", "clock"),
    500: ("Something broke", "hand"),
    503: ("Something is away", "clock"),
}
"""A heading for people, and the picture beside it."""


def of_ours(request: Request[Any, Any, Any], error: BackupManagerError) -> Response[Any]:
    """An error that this product raises on purpose."""
    return _answer(request, STATUS_OF.get(type(error), 500), error.message, error.hint)


def of_framework(request: Request[Any, Any, Any], error: HTTPException) -> Response[Any]:
    """An error of the request itself: a wrong path, method or parameter. What the framework calls 500 is ours."""
    if error.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
        return of_defect(request, error)
    extra = error.extra if isinstance(error.extra, list) else []
    details = "; ".join(f"{one.get('key', '')}: {one.get('message', '')}" for one in extra if isinstance(one, dict))
    return _answer(request, error.status_code, f"{error.detail} {details}".strip(), headers=error.headers)


def of_nesting(request: Request[Any, Any, Any], error: RecursionError) -> Response[Any]:
    """JSON that is nested deeper than anything that is asked here; anything else that recurses is a defect."""
    if request.method in {"GET", "HEAD"}:
        return of_defect(request, error)
    return _answer(request, 400, "The body is nested too deep.")


def of_defect(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Anything else is a defect; what it was stands in the journal."""
    log.error("%s %s failed.", request.method, request.url.path, exc_info=error)
    return _answer(request, 500, "This is a defect of Backup Manager.", "The journal of the api says more.")


def _answer(
    request: Request[Any, Any, Any],
    status: int,
    detail: str,
    hint: str = "",
    *,
    headers: Mapping[str, str] | None = None,
) -> Response[Any]:
    """A page for a browser that looks at pages; for everything else a document."""
    problem, sent = Problem(HTTPStatus(status).phrase, status, detail, hint), marks() | dict(headers or {})
    if request.scope["path"].startswith("/api/") or "text/html" not in request.headers.get("accept", ""):
        return Response(problem, status_code=status, media_type=MEDIA_TYPE, headers=sent)
    heading, icon = IN_WORDS.get(status, IN_WORDS[500 if status > 500 else 400])
    context = {"problem": problem, "heading": heading, "icon": icon}
    return Template("problem.html", context=context, status_code=status, headers=sent)
