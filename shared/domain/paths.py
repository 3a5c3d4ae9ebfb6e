"""Paths inside restore points: bytes, as exact text for addresses, and as text that is safe to show.

A path is relative to the top of its restore point, has no empty part, no `.` and no `..`; the top itself is `b""`.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from shared.domain.errors import NameRefused
from shared.domain.wording import printable

LONGEST_BYTES: Final = 64 * 1024
"""More than any address can carry."""

_SAFE: Final = "/~"
_NO_PATH: Final = "That is not a path in a backup."
_WHAT_IS_ONE: Final = "A path has no `..`, no empty part and no zero byte, and begins at the top of the restore point."


def token_of(path: bytes) -> str:
    """The path as it stands in an address: percent-encoded, and exact whatever bytes it has."""
    return quote_from_bytes(path, _SAFE)


def path_in_address(raw: bytes) -> bytes:
    """The path that a part of an address stands for, before anybody decoded it. Raises NameRefused.

    A `/` in a name is none: no file has such a name, and an encoded one is never taken for a separator.
    """
    parts = [unquote_to_bytes(part) for part in raw.strip(b"/").split(b"/")] if raw.strip(b"/") else []
    if any(b"/" in part for part in parts):
        raise NameRefused(_NO_PATH, _WHAT_IS_ONE)
    return checked(b"/".join(parts))


def path_in_query(query: bytes, name: str = "path") -> bytes | None:
    """The path that a query string has under a name, or None. Raises NameRefused."""
    for pair in query.split(b"&"):
        key, _, value = pair.partition(b"=")
        if unquote_to_bytes(key) == name.encode():
            return checked(unquote_to_bytes(value.replace(b"+", b" ")).strip(b"/"))
    return None


def checked(path: bytes) -> bytes:
    """The path itself. Raises NameRefused when it is none."""
    if len(path) > LONGEST_BYTES or b"\0" in path:
        raise NameRefused(_NO_PATH, _WHAT_IS_ONE)
    if path and any(part in {b"", b".", b".."} for part in path.split(b"/")):
        raise NameRefused(_NO_PATH, _WHAT_IS_ONE)
    return path


def shown(name: bytes) -> str:
    r"""The name as a person may see it: what is no text, and what could move a cursor, is escaped as \x and \u."""
    return printable(name.decode("utf-8", "backslashreplace"))


def parent_of(path: bytes) -> tuple[bytes, bytes]:
    """The folder that a path lies in, and its name there."""
    folder, _, name = path.rpartition(b"/")
    return folder, name
