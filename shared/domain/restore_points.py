"""What the retention speaks of: restore points, what is known of them, and the verdicts.

A slot is an aware datetime; every length of time is a timedelta.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import msgspec

from shared.domain.event import Kind, Quality
from shared.domain.host_state import point_key

FUTURE_TOLERANCE: Final = timedelta(minutes=5)
"""So far ahead of the clock a slot may be before it is taken for a mistake."""

BEST_FIRST: Final = {Quality.COMPLETE: 0, Quality.DEGRADED: 1, Quality.SUSPECT: 2}
"""How far each quality is from the best."""


class Point(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A restore point that is on the drive. `slot` is the instant it stands for."""

    kind: Kind
    name: str
    slot: datetime
    quality: Quality = Quality.COMPLETE
    verified: bool = False

    @property
    def key(self) -> str:
        """How it is called where kinds are mixed: `kind/name`."""
        return point_key(self.kind, self.name)


class Hold(msgspec.Struct, frozen=True):
    """Nothing at or before the pinned snapshot may be removed; nothing at all when none is pinned."""

    reason: str
    pinned: str | None = None


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What a plan is made of besides policy, time and hold.

    `current` and `latest` are names of snapshots; `in_use`, `undeleted` (by a person, not long ago) and `confirmed`
    hold keys. `clock_doubt` says why the clock is not trusted, and is empty when it is. `not_on_drive` and
    `not_in_log` are keys that only one side knows.
    """

    points: tuple[Point, ...]
    current: str | None = None
    latest: str | None = None
    in_use: frozenset[str] = frozenset()
    undeleted: frozenset[str] = frozenset()
    clock_doubt: str = ""
    not_on_drive: tuple[str, ...] = ()
    not_in_log: tuple[str, ...] = ()
    policy_changed_at: datetime | None = None
    confirmed: frozenset[str] = frozenset()
    confirmed_at: datetime | None = None


class Verdict(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Keep or remove, with the reasons. `covered_by` are the keys of what still covers a removed point's day.

    `tier` is the first that keeps the point: hourly, daily, monthly, archive or golden; `future` for one that is
    dated so; else `expired`, and then only a guard can keep it.
    """

    point: Point
    keep: bool
    tier: str
    reasons: tuple[str, ...]
    covered_by: tuple[str, ...] = ()


class RetentionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The verdicts of a host, oldest first, and why none of its removals may be carried out, if so."""

    policy: str
    verdicts: tuple[Verdict, ...]
    refused: tuple[str, ...] = ()

    @property
    def removals(self) -> tuple[Verdict, ...]:
        """What is to go; to be carried out only when nothing refuses it."""
        return tuple(verdict for verdict in self.verdicts if not verdict.keep)


def is_future(slot: datetime, now: datetime) -> bool:
    """Whether a slot is so far ahead of the clock that it is never counted and never removed."""
    return slot - now > FUTURE_TOLERANCE


def place_in_time(point: Point) -> tuple[datetime, str, str]:
    """What restore points are sorted by: oldest first, and always the same way at one slot."""
    return point.slot, point.kind, point.name
