"""How sizes, spans of time and foreign text are put into words. Bytes, seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Final

_UNITS: Final = ("B", "KB", "MB", "GB", "TB", "PB")


def size(size_bytes: int) -> str:
    """Bytes as a person reads them."""
    value = float(size_bytes)
    for unit in _UNITS:
        if value < 1000 or unit == _UNITS[-1]:
            return f"{value:,.0f} {unit}" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")


def ago(moment: datetime | None, now: datetime) -> str:
    """How long ago something was."""
    if moment is None:
        return "never"
    return f"{duration((now - moment).total_seconds())} ago" if moment <= now else f"{moment:%Y-%m-%d %H:%M} UTC"


def duration(seconds: float) -> str:
    """A span of time (seconds), in its two largest units."""
    if 0 < seconds < 10:
        return f"{seconds:.1f} s"
    whole = max(0, int(seconds))
    days, rest = divmod(whole, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, secs = divmod(rest, 60)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {secs} s" if minutes else f"{secs} s"


def printable(text: str) -> str:
    """The text with everything escaped that could move a cursor or break a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
