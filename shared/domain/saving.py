"""Which positions of the log get a saved projection, and which of them stay. Pure.

A saved projection makes the way to a past moment short. So there is one a day (90 days back) or a month (before), and
where much happens more of them, so that no tail is ever longer than a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import msgspec

from shared.domain.host_state import moment_of

DAILY_US: Final = 90 * 86_400 * 1_000_000
MOST_EVENTS: Final = 50_000
"""The longest tail, in the daily ones' time; it takes about 0.2 s."""
MOST_OLD_EVENTS: Final = 100_000
FEWEST_EVENTS: Final = 100
"""A shorter tail is not worth a saved projection, whatever the day."""


class Mark(msgspec.Struct, frozen=True, order=True):
    """A position of the log and when it was recorded (µs since 1970)."""

    position: int
    recorded_us: int


START: Final = Mark(0, 0)


def is_due(last: Mark, here: Mark, now_us: int) -> bool:
    """Whether a projection is to be saved here, when the last one was saved there."""
    events = here.position - last.position
    if events < FEWEST_EVENTS:
        return False
    return events >= _most(here, now_us) or _period(here, now_us) != _period(last, now_us)


def superfluous(saved: Sequence[Mark], now_us: int) -> list[Mark]:
    """Which of these are no longer needed: of each day or month the first stays, and what keeps the tails short."""
    ordered, going = sorted(saved), []
    last = START
    for here, following in pairwise(ordered):
        first = _period(here, now_us) != _period(last, now_us)
        if first or following.position - last.position > _most(following, now_us):
            last = here
        else:
            going.append(here)
    return going


def first_gap(saved: Sequence[Mark], head: Mark, now_us: int) -> tuple[Mark, Mark] | None:
    """The oldest stretch of the log that is too long without a saved projection."""
    marks = [START, *sorted(saved), head]
    for here, following in pairwise(marks):
        if following.position - here.position > 2 * _most(following, now_us):
            return here, following
    return None


def _most(mark: Mark, now_us: int) -> int:
    return MOST_OLD_EVENTS if now_us - mark.recorded_us > DAILY_US else MOST_EVENTS


def _period(mark: Mark, now_us: int) -> str:
    """The day of a mark, in UTC; the month, when it is long ago."""
    if mark == START:
        return ""
    moment = moment_of(mark.recorded_us)
    return f"{moment:%Y-%m}" if now_us - mark.recorded_us > DAILY_US else f"{moment:%Y-%m-%d}"
