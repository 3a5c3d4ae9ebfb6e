"""When nothing of a plan may be carried out, however right each verdict is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from shared.domain.restore_points import Facts, Verdict, is_future

CONFIRMED_FOR: Final = timedelta(hours=24)
"""So long a person's confirmation counts, and so long a changed policy needs one."""

ALWAYS_ALLOWED: Final = 2
"""So many removals at once never need a confirmation."""

LARGEST_SHARE_PERCENT: Final = 10
"""More of a host's points at once need one. What is dated in the future is not counted among them."""


def refusals(facts: Facts, removals: Sequence[Verdict], now: datetime) -> tuple[str, ...]:
    """Sentences that say why, with the numbers and what to do; none when the removals may be carried out."""
    return (*_doubts(facts), *_unconfirmed(facts, removals, now))


def _doubts(facts: Facts) -> Iterator[str]:
    """What no confirmation of a plan lifts."""
    if facts.clock_doubt:
        doubt = facts.clock_doubt.rstrip(".")
        yield f"The clock is in doubt: {doubt}. Check the time, and say that the clock is right."
    if facts.not_on_drive:
        named = _named(facts.not_on_drive)
        yield f"The log knows {named}, and the drive does not. Find out where that is, or declare it lost."
    if facts.not_in_log:
        named = _named(facts.not_in_log)
        yield f"The drive has {named}, and the log does not know it. Let it be recorded first, or move it away."
    twice = tuple(key for key, times in Counter(point.key for point in facts.points).items() if times > 1)
    if twice:
        yield f"Listed more than once: {_named(twice)}. Removing one would remove the other; find out which is meant."


def _unconfirmed(facts: Facts, removals: Sequence[Verdict], now: datetime) -> Iterator[str]:
    """What a person can confirm, removal by removal."""
    if not removals or _is_confirmed(facts, removals, now):
        return
    count = "1 removal" if len(removals) == 1 else f"{len(removals)} removals"
    changed_at = facts.policy_changed_at
    # A change that is dated in the future is no older than a day either.
    if changed_at is not None and now - changed_at <= CONFIRMED_FOR:
        moment = f"{changed_at:%Y-%m-%d %H:%M}"
        yield f"The policy changed at {moment}, less than 24 hours ago. Confirm the {count}, or wait a day."
    points = sum(not is_future(point.slot, now) for point in facts.points)
    if len(removals) > ALWAYS_ALLOWED and len(removals) * 100 > points * LARGEST_SHARE_PERCENT:
        limit = f"{LARGEST_SHARE_PERCENT} % of the {points} points of this host"
        yield f"{count.capitalize()} are more than {limit}. Look at them, and confirm them if they are right."


def _is_confirmed(facts: Facts, removals: Sequence[Verdict], now: datetime) -> bool:
    if facts.confirmed_at is None or not timedelta() <= now - facts.confirmed_at <= CONFIRMED_FOR:
        return False
    return all(verdict.point.key in facts.confirmed for verdict in removals)


def _named(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return f"{keys[0]}{more}"
