"""What every answer says to the browser: nothing is loaded from elsewhere, framed, guessed at, or kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

POLICY: Final = (
    "default-src 'none'",
    "style-src 'self'",
    "script-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "worker-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
)
SECURITY_HEADERS: Final = (
    (b"content-security-policy", "; ".join(POLICY).encode()),
    (b"x-content-type-options", b"nosniff"),
    # With no-referrer a browser says "Origin: null" of our own forms, too (Fetch, "append a request Origin header").
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


def marked_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """These headers and the marks; what a route set itself stays."""
    said = list(headers)
    names = {name.lower() for name, _ in said}
    return said + [mark for mark in SECURITY_HEADERS if mark[0] not in names]


def marks() -> dict[str, str]:
    """The marks alone, for an answer to a request that no route took: no middleware sees that."""
    return {name.decode(): value.decode() for name, value in SECURITY_HEADERS}
