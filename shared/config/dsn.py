"""The address of a database, and the password in it. Pure."""

from __future__ import annotations

from urllib.parse import parse_qs, quote, urlsplit


def holds_password(dsn: str) -> bool:
    """Whether the address says a password, before its @ or behind its question mark."""
    try:
        parts = urlsplit(dsn)
        return parts.password is not None or "password" in parse_qs(parts.query, keep_blank_values=True)
    except ValueError:  # no address at all, which is said elsewhere
        return False


def with_password(dsn: str, password: str) -> str:
    """The address with a password. Behind the question mark it may stand whatever else the address says."""
    return f"{dsn}{'&' if '?' in dsn else '?'}password={quote(password, safe='')}"
