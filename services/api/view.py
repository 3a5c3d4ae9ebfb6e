"""What the pages show, computed from the state: values that templates only lay out. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from shared.config import Settings
from shared.config.condition import WORST_FIRST, condition, detail, notes_on
from shared.domain.host_state import HostState
from shared.domain.names import HostName
from shared.domain.projection import State
from shared.domain.retention import RetentionPlan

STRIP_DAYS: Final = 30
BAD: Final = frozenset({"failed", "overdue", "on hold", "never backed up"})


@dataclass(frozen=True, slots=True)
class Day:
    """A day of the strip: whether a complete snapshot of it is kept."""

    date: date
    kept: int


@dataclass(frozen=True, slots=True)
class Card:
    """One host on the dashboard."""

    name: str
    word: str
    detail: str
    notes: list[str]
    last_good_at: datetime | None
    host: HostState
    days: list[Day]


def overview(settings: Settings, state: State, now: datetime) -> dict[str, Any]:
    """Every host, the worst first, and one sentence about all of them."""
    names = sorted({*(host.name for host in settings.hosts), *state.hosts})
    cards = [_card(settings, name, state.hosts.get(name, HostState()), now) for name in names]
    cards.sort(key=lambda card: (WORST_FIRST.index(card.word), card.name))
    return {"cards": cards, "sentence": _sentence(cards), "settings": settings, "stores": state.stores}


def _card(settings: Settings, name: str, host: HostState, now: datetime) -> Card:
    word, newest = condition(settings, name, host, now), host.newest()
    return Card(
        name,
        word,
        detail(settings, name, host, word, now),
        notes_on(name, host),
        (newest.taken_at or newest.slot) if newest else None,
        host,
        _strip(host, now, ZoneInfo(settings.tz)),
    )


def _strip(host: HostState, now: datetime, zone: ZoneInfo) -> list[Day]:
    counts: dict[date, int] = {}
    for snapshot in host.snapshots.values():
        day = snapshot.slot.astimezone(zone).date()
        counts[day] = counts.get(day, 0) + 1
    today = now.astimezone(zone).date()
    days = [today - timedelta(days=ago) for ago in range(STRIP_DAYS - 1, -1, -1)]
    return [Day(day, counts.get(day, 0)) for day in days]


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
        "card": _card(settings, name, host, now),
        "settings": settings,
        "plan": made,
        "verdicts": verdicts,
        "snapshots": [host.snapshots[key] for key in sorted(host.snapshots, reverse=True)],
        "archives": sorted(host.archives.values(), key=lambda archive: archive.stands_for, reverse=True),
        "golden": [host.golden[key] for key in sorted(host.golden, reverse=True)],
        "trash": sorted(host.trash.values(), key=lambda lying: lying.trashed_us, reverse=True),
    }
