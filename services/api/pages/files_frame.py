"""What the pages about files have in common: exact paths in addresses, and crumbs."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeAlias
from urllib.parse import urlencode

from litestar import Request

from services.api.problems import NotThere
from shared.domain.paths import path_in_address, shown, token_of

Asked: TypeAlias = Request[Any, Any, Any]


def path_in(request: Asked, *before: str) -> bytes:
    """The exact bytes of the path behind the page and the names in an address. Raises NotThere and NameRefused."""
    parts = [part for part in request.scope["raw_path"].split(b"/") if part]
    if [part.decode("ascii", "replace") for part in parts[1 : 1 + len(before)]] != list(before):
        raise NotThere(
            "There is no such page.", "The names of hosts and restore points stand in addresses as they are."
        )
    return path_in_address(b"/".join(parts[1 + len(before) :]))


def address(page: str, *names: str, path: str | bytes = b"", at: datetime | None = None, **query: str | None) -> str:
    """The address of a page about a path; a path that is text is a token already."""
    token = path if isinstance(path, str) else token_of(path)
    wanted = {key.rstrip("_"): value for key, value in query.items() if value is not None}
    if at is not None:
        wanted["at"] = at.isoformat()
    text = "/".join(["", page, *names, *([token] if token else [])])
    return f"{text}?{urlencode(wanted)}" if wanted else text


def crumbs(path: bytes) -> list[tuple[str, str]]:
    """Each folder on the way to a path, as it is shown and as its token."""
    parts = path.split(b"/") if path else []
    return [(shown(part), token_of(b"/".join(parts[: number + 1]))) for number, part in enumerate(parts)]
