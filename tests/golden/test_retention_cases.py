"""Retention by hand: retention/*.txt hold cases that somebody worked out with a calendar, never copied from a result.

A case is `## its name`, then what it is made of, then one line for each point, oldest first:

    kind and slot (its name), quality, verified | keep or remove | tier | reasons | what covers it, if it goes

Without another word the policy is `48 hours, 10 days, 3 months, 5 archive days, 24 golden months`, the zone is UTC,
every removal was confirmed just now, and beside the listed points there are three complete, verified snapshots of
the last two minutes, an archive and a golden copy of now (`newer: 0` takes all five away, `newer: 25` makes it 25
snapshots). All those must be kept too. Expected refusals stand as `refused:` lines, whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from shared.domain.events import Kind, Quality
from shared.domain.names import parse_snapshot_name, snapshot_name
from shared.domain.policy import Policy
from shared.domain.retention import Facts, Hold, Point, Verdict, plan

FOLDER: Final = Path(__file__).parent / "retention"
FIELDS: Final = {
    "hours": "hourly_hours",
    "days": "daily_days",
    "months": "monthly_months",
    "archive days": "archive_days",
    "golden months": "golden_months",
}
SHORT: Final = {"hours": 48, "days": 10, "months": 3}
Lines = dict[str, list[str]]


def cases() -> Iterator[object]:
    for path in sorted(FOLDER.glob("*.txt")):
        for text in path.read_text(encoding="utf-8").split("\n## ")[1:]:
            name, _, body = text.partition("\n")
            yield pytest.param(body, id=f"{path.stem}: {name}")


@pytest.mark.parametrize("body", list(cases()))
def test_the_plan_is_what_was_worked_out_by_hand(body: str) -> None:
    rows = [line for line in body.splitlines() if "|" in line]
    lines: Lines = {}
    for line in body.splitlines():
        if "|" not in line and ": " in line and not line.startswith("#"):
            word, _, text = line.partition(": ")
            lines.setdefault(word, []).append(text)
    now = slot_of(lines["now"][0])
    listed = tuple(point_of(row.split("|")[0]) for row in rows)
    newer = newer_points(int(lines.get("newer", ["3"])[0]), now)
    made = plan(facts_of(lines, (*listed, *newer), now), policy_of(lines), now, hold_of(lines))
    shown = [shown_verdict(verdict) for verdict in made.verdicts if verdict.point not in newer]
    assert shown == [" | ".join(part.strip() for part in row.split("|")) for row in rows]
    assert list(made.refused) == lines.get("refused", [])
    assert all(verdict.keep for verdict in made.verdicts if verdict.point in newer)


def test_there_are_enough_cases() -> None:
    assert len(list(cases())) >= 40


def slot_of(text: str) -> datetime:
    return parse_snapshot_name(text.strip())


def point_of(text: str) -> Point:
    kind, name, *words = text.split()
    quality = next((Quality(word) for word in words if word != "verified"), Quality.COMPLETE)
    return Point(kind=Kind(kind), name=name, slot=slot_of(name), quality=quality, verified="verified" in words)


def newer_points(count: int, now: datetime) -> tuple[Point, ...]:
    if count == 0:
        return ()
    slots = [now - timedelta(minutes=minutes) for minutes in reversed(range(count))]
    snapshots = [Point(kind=Kind.SNAPSHOT, name=snapshot_name(slot), slot=slot, verified=True) for slot in slots]
    others = [Point(kind=kind, name=snapshot_name(now), slot=now) for kind in (Kind.ARCHIVE, Kind.GOLDEN)]
    return (*snapshots, *others)


def policy_of(lines: Lines) -> Policy:
    parts = [part.partition(" ") for part in lines.get("policy", [""])[0].split(", ") if part]
    given = {word: int(number) for number, _, word in parts}
    fields = {FIELDS[word]: number for word, number in (SHORT | given).items()}
    return Policy(**fields, time_zone=lines.get("zone", ["UTC"])[0])


def hold_of(lines: Lines) -> Hold | None:
    if "hold" not in lines:
        return None
    pinned = lines["hold"][0]
    return Hold("looks odd", None if pinned == "everything" else pinned)


def facts_of(lines: Lines, points: tuple[Point, ...], now: datetime) -> Facts:
    def one(word: str) -> str | None:
        return lines[word][0] if word in lines else None

    def many(word: str) -> tuple[str, ...]:
        return tuple(key for line in lines.get(word, []) for key in line.split(", "))

    everything = frozenset(point.key for point in points)
    confirmed_at, changed_at = one("confirmed at"), one("policy changed at")
    return Facts(
        points=points,
        current=one("current"),
        latest=one("latest"),
        in_use=frozenset(many("in use")),
        clock_doubt=one("clock doubt") or "",
        not_on_drive=many("not on drive"),
        not_in_log=many("not in log"),
        policy_changed_at=slot_of(changed_at) if changed_at else None,
        confirmed=frozenset(many("confirmed")) if "confirmed" in lines else everything,
        confirmed_at=slot_of(confirmed_at) if confirmed_at else now,
    )


def shown_verdict(verdict: Verdict) -> str:
    point = verdict.point
    words = [point.kind, point.name] + ([point.quality] if point.quality is not Quality.COMPLETE else [])
    words += ["verified"] if point.verified else []
    parts = [" ".join(words), "keep" if verdict.keep else "remove", verdict.tier]
    parts += ["; ".join(verdict.reasons)] + ([", ".join(verdict.covered_by)] if not verdict.keep else [])
    return " | ".join(parts)
