"""Errors as people and programs read them: application/problem+json with a sentence and a next step (RFC 9457)."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any, Final

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from shared.adapters.jetstream import BusUnavailable
from shared.adapters.passwords import TooManyPasswords
from shared.domain.errors import (
    AccessRefused,
    BackupManagerError,
    LogUnavailable,
    MessageRefused,
    NameRefused,
    PasswordRefused,
)

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


class LoginNeeded(BackupManagerError):
    """Whoever asks has to log in first."""


class AccessDenied(BackupManagerError):
    """Whoever asks may not have it."""


class AlreadyRunning(BackupManagerError):
    """What was asked for is pending or running already."""


STATUS_OF: Final[dict[type[BackupManagerError], int]] = {
    NotThere: 404,
    NameRefused: 404,
    LoginNeeded: 401,
    AccessDenied: 403,
    AlreadyRunning: 409,
    AccessRefused: 409,
    PasswordRefused: 400,
    TooManyPasswords: 429,
    MessageRefused: 400,
    LogUnavailable: 503,
    BusUnavailable: 503,
}


def of_ours(_: Request[Any, Any, Any], error: BackupManagerError) -> Response[Problem]:
    """An error that this product raises on purpose."""
    return _response(STATUS_OF.get(type(error), 500), error.message, error.hint)


def of_framework(_: Request[Any, Any, Any], error: HTTPException) -> Response[Problem]:
    """An error of the request itself: a wrong path, method or parameter."""
    extra = error.extra if isinstance(error.extra, list) else []
    details = "; ".join(f"{one.get('key', '')}: {one.get('message', '')}" for one in extra if isinstance(one, dict))
    return _response(error.status_code, f"{error.detail} {details}".strip())


def of_defect(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
    """Anything else is a defect; what it was stands in the journal."""
    log.error("%s %s failed.", request.method, request.url.path, exc_info=error)
    return _response(500, "This is a defect of Backup Manager.", "The journal of the api says more.")


def _response(status: int, detail: str, hint: str = "") -> Response[Problem]:
    problem = Problem(HTTPStatus(status).phrase, status, detail, hint)
    return Response(problem, status_code=status, media_type=MEDIA_TYPE)
