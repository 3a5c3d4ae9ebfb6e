"""What a run of the retention may do at most, by rules that the product does not share."""

from __future__ import annotations

import os
from collections.abc import Coroutine
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from shared.adapters.markers import MARKER_FILE
from shared.adapters.restore_points import record_name
from shared.domain.events import Kind
from shared.domain.host_state import moment_of
from shared.domain.inventory import hold_of
from shared.domain.restore_points import Facts, Hold, Point
from tests.support.retention_rules import counted, guarded, promised
from tests.support.thinning import DAY, Bench

CLOCKS_DIFFER: Final = timedelta(minutes=5)
_Result = TypeVar("_Result")


class Host(Protocol):
    """What is known of a host besides its log and its drive. `made` is all that there ever was."""

    place: Bench
    now: datetime
    made: dict[str, Point]
    undeleted: dict[str, datetime]
    readers: dict[str, int]

    def do(self, work: Coroutine[Any, Any, _Result]) -> _Result: ...


class Limits:
    """What a run may do at most, by rules of their own."""

    def __init__(self, host: Host) -> None:
        place, self.now = host.place, host.place.clock.at
        self.state = host.do(place.state())
        hold = hold_of(self.state)
        there = place.drive().points
        points = tuple(point for key, point in host.made.items() if key in there)
        links = [(place.folder.link_target(name) or "").removeprefix("hourly/") for name in ("current", "latest")]
        facts = Facts(points=points, current=links[0], latest=links[1], in_use=frozenset(host.readers))
        kept = set().union(*guarded(facts, self.now, hold).values())
        kept |= promised(host.made.values(), place.settings.policy(), self.now)
        kept |= {key for key, at in host.undeleted.items() if self.now - at <= 30 * DAY}
        self.kept, self.due = kept, self._due(host, hold)
        self.most = max(2, len(counted(points, self.now)) // 10)

    def _due(self, host: Host, hold: Hold | None) -> set[str]:
        """What may be purged now: what lies there for longer than the grace period by the log, and is not held."""
        known = {key: trashed for key, trashed in self.state.trash.items() if key not in host.readers}
        held = guarded(Facts(points=tuple(host.made.values())), self.now, hold)["held"]
        return {key for key, trashed in known.items() if host.now - trashed.trashed_at > DAY and key not in held}

    def check(self, removed: list[Point]) -> None:
        """Whether no more was removed than may be."""
        keys = {point.key for point in removed}
        assert not keys & self.kept
        confirmed = self.state.confirmed_us and self.now - moment_of(self.state.confirmed_us) <= DAY
        if not (confirmed and keys <= set(self.state.confirmed)):
            assert len(keys) <= self.most
        if self.now < moment_of(self.state.recorded_us) - CLOCKS_DIFFER:
            assert not keys


def is_whole(place: Path, point: Point) -> bool:
    """Whether everything that belongs to a point is there."""
    if point.kind is Kind.ARCHIVE:
        parts = {point.name, record_name(point.name), f"{point.name}.sha256"}
        return parts <= set(os.listdir(place))
    home = place / point.name / "home"
    files = [home / "alice" / "a.txt", home / "alice" / "b.txt"] if point.kind is Kind.SNAPSHOT else [home / "a.txt"]
    return all(path.exists() for path in [*files, place / point.name / MARKER_FILE])
