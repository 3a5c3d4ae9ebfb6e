"""What the pages show, computed from the state: values that templates only lay out. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any, Final, TypeAlias
from zoneinfo import ZoneInfo

from services.api.drives import drives
from services.api.strip import Day, in_a_sentence, strip
from shared.config import Settings
from shared.config.condition import WORST_FIRST, condition, detail, notes_on
from shared.domain.host_state import HostState
from shared.domain.names import HostName
from shared.domain.projection import State
from shared.domain.retention import RetentionPlan
from shared.domain.schedule import next_slot
from shared.domain.wording import ago

BAD: Final = frozenset({"failed", "overdue", "on hold", "never backed up"})
RECENT_SNAPSHOTS: Final = 24
OUTCOMES: Final = ("completed", "failed", "cancelled", "abandoned")


@dataclass(frozen=True, slots=True)
class Card:
    """One host on the dashboard. `hourly_bytes` is what a snapshot of the last day adds in the median."""

    name: str
    word: str
    detail: str
    notes: list[str]
    last_good_at: datetime | None
    current: str
    size_bytes: int
    hourly_bytes: int
    ages: str
    host: HostState
    days: list[Day]
    days_in_words: str


MakeCard: TypeAlias = Callable[[Settings, str, HostState, datetime], "Card"]


def overview(settings: Settings, state: State, now: datetime, make: MakeCard | None = None) -> dict[str, Any]:
    """Every host, the worst first, and one sentence about all of them."""
    names = sorted({*(host.name for host in settings.hosts), *state.hosts})
    make = make or make_card
    cards = [make(settings, name, state.hosts.get(name, HostState()), now) for name in names]
    cards.sort(key=lambda card: (WORST_FIRST.index(card.word), card.name))
    return {
        "cards": cards,
        "sentence": _sentence(cards),
        "second_sentence": _second_sentence(settings, cards, now),
        "settings": settings,
        "drives": drives(state, now),
        "outcomes": outcome_table(state),
    }


def make_card(settings: Settings, name: str, host: HostState, now: datetime) -> Card:
    """What the dashboard says of one host."""
    word, newest = condition(settings, name, host, now), host.newest()
    days = strip(host, now, ZoneInfo(settings.tz))
    return Card(
        name,
        word,
        detail(settings, name, host, word, now),
        notes_on(name, host),
        (newest.taken_at or newest.slot) if newest else None,
        newest.name if newest else "",
        newest.size_bytes if newest else 0,
        _hourly_bytes(host),
        _ages(settings, host, now),
        host,
        days,
        in_a_sentence(days),
    )


def _hourly_bytes(host: HostState) -> int:
    added = [host.snapshots[name].transferred_bytes for name in sorted(host.snapshots)[1:][-RECENT_SNAPSHOTS:]]
    return round(median(added)) if added else 0


def _ages(settings: Settings, host: HostState, now: datetime) -> str:
    """How many snapshots are of an age at which all, those of days, and those of months are kept."""
    policy = settings.policy()
    hourly, daily = timedelta(hours=policy.hourly_hours), timedelta(days=policy.daily_days)
    ages = [now - snapshot.slot for snapshot in host.snapshots.values()]
    counts = (
        sum(age <= hourly for age in ages),
        sum(hourly < age <= daily for age in ages),
        sum(age > max(hourly, daily) for age in ages),
    )
    return f"{counts[0]:,} hourly, {counts[1]:,} daily, {counts[2]:,} monthly"


def outcome_table(state: State) -> list[tuple[str, dict[str, int]]]:
    """How often each job ended how, over all hosts."""
    table: dict[str, dict[str, int]] = {}
    for host in state.hosts.values():
        for key, count in host.outcomes.items():
            job, _, outcome = key.partition(" ")
            row = table.setdefault(job, dict.fromkeys(OUTCOMES, 0))
            row[outcome] = row.get(outcome, 0) + count
    return sorted(table.items())


def _second_sentence(settings: Settings, cards: list[Card], now: datetime) -> str:
    """How old the newest and the oldest of the last good backups are, and what comes next."""
    good = [card.last_good_at for card in cards if card.last_good_at is not None]
    if not good:
        return ""
    runs = [next_slot(host.snapshot_interval_hours, now) for host in settings.hosts]
    following = f" The next run is at {min(runs):%H:%M} UTC." if runs else ""
    if len(good) == 1:
        return f"The last good backup was made {ago(good[0], now)}.{following}"
    newest, oldest = ago(max(good), now), ago(min(good), now)
    return (
        f"Every host's last good backup is at most {oldest.removesuffix(' ago')} old, the newest {newest}.{following}"
    )


def _sentence(cards: list[Card]) -> str:
    """The worst thing first."""
    if not cards:
        return "No hosts yet: add them to HOSTS in .env."
    bad = [card for card in cards if card.word in BAD]
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        return f"{bad[0].name} needs you: it is {bad[0].word}{more}."
    running = sum(card.word == "running" for card in cards)
    doing = f" {running} running now." if running else ""
    return (
        f"All {len(cards)} hosts are backed up.{doing}" if len(cards) > 1 else f"{cards[0].name} is backed up.{doing}"
    )


def host_view(
    settings: Settings, name: HostName, host: HostState, made: RetentionPlan, now: datetime
) -> dict[str, Any]:
    """One host: its card, its restore points with the verdicts on them, its trash."""
    verdicts = {verdict.point.key: verdict for verdict in made.verdicts}
    return {
        "card": make_card(settings, name, host, now),
        "settings": settings,
        "plan": made,
        "verdicts": verdicts,
        "snapshots": [host.snapshots[key] for key in sorted(host.snapshots, reverse=True)],
        "archives": sorted(host.archives.values(), key=lambda archive: archive.stands_for, reverse=True),
        "golden": [host.golden[key] for key in sorted(host.golden, reverse=True)],
        "trash": sorted(host.trash.values(), key=lambda lying: lying.trashed_us, reverse=True),
    }
