"""The versions of a path drawn as bars over time: numbers for a picture that is 1000 wide. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from services.api.files.versions import Bar

WIDTH: Final = 1000.0
NARROWEST: Final = 3.0
LAST: Final = 40.0
"""What the newest restore point gets, behind which nothing is."""


class Drawn(msgspec.Struct, frozen=True):
    """A bar of the picture. `number` counts the versions from 1; None is a time without the path."""

    x: float
    width: float
    number: int | None
    title: str


class Drawing(msgspec.Struct, frozen=True):
    """The picture: its bars, and the time that its left and right edges stand for."""

    bars: list[Drawn]
    begins: datetime
    ends: datetime


def drawn(bars: Sequence[Bar], slots: Mapping[str, datetime]) -> Drawing:
    """Lay bars out: each from its first restore point to the first of the next."""
    begins, ends = slots[bars[0].first], slots[bars[-1].last]
    span = (ends - begins).total_seconds() or 1.0

    def place(name: str) -> float:
        return (slots[name] - begins).total_seconds() / span * (WIDTH - LAST)

    laid: list[Drawn] = []
    number = 0
    for bar, following in zip(bars, [*bars[1:], None], strict=True):
        x = place(bar.first)
        end = place(following.first) if following else WIDTH
        number += bar.version is not None
        what = f"version {number}" if bar.version else "not there"
        title = f"{what}: {bar.first} to {bar.last}, {bar.points} restore points"
        laid.append(Drawn(round(x, 1), round(max(end - x - 1, NARROWEST), 1), number if bar.version else None, title))
    return Drawing(laid, begins, ends)
