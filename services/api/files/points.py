"""Which restore points can be looked into, and what became of those that no longer can."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from services.api.asked import known_host
from services.api.files.drive import Drive, PointRef
from services.api.live import Live
from services.api.problems import Gone, NotThere
from shared.adapters.postgres import EventLog
from shared.config import Settings
from shared.domain.errors import NameRefused
from shared.domain.events import Kind, PointLost, PointTrashed, RemovalOrdered
from shared.domain.host_state import GoldenState, HostState, PointState, moment_of, point_key
from shared.domain.names import HostName, host_stream, parse_golden_name, parse_snapshot_name
from shared.domain.restore_request import CURRENT, wanted_point


class Points:
    """What is asked of restore points by name, now or at a moment."""

    def __init__(self, live: Live, events: EventLog, settings: Settings, drive: Drive) -> None:
        self._live = live
        self._events = events
        self._settings = settings
        self._drive = drive

    async def known(self, host: str, at: datetime | None = None) -> tuple[HostName, HostState]:
        """A host, and what is known of it. Raises NotThere."""
        name = known_host(self._settings, host)
        return name, (await self._live.as_of(at)).hosts.get(name, HostState())

    async def one(self, host: str, point: str, at: datetime | None = None) -> PointRef:
        """A restore point that is kept and was at the moment, by its name, or `latest`. Raises NotThere and Gone."""
        name, then = await self.known(host, at)
        if point in CURRENT:
            point = wanted_point(then, point).name
        kind = kind_of_name(point)
        if point not in self._live.state.hosts.get(name, HostState()).points(kind):
            raise await self._why_not(name, kind, point)
        found = then.points(kind).get(point)
        if found is None:
            raise NotThere(f"The {kind} {point} of {name} was not there at that moment.", "Go back to now.")
        return PointRef(self._drive.where(name), kind, point, instant(found))

    async def all(self, host: str, at: datetime | None = None) -> list[PointRef]:
        """The snapshots and golden copies of a host that are kept and were at the moment, by what they are of."""
        name, then = await self.known(host, at)
        now = self._live.state.hosts.get(name, HostState())
        return [PointRef(self._drive.where(name), kind, point, slot) for slot, kind, point in in_order(then, now)]

    async def _why_not(self, host: HostName, kind: Kind, point: str) -> NotThere | Gone:
        """The sentence about a restore point that is not kept: by which rule it went, and when."""
        why = ""
        for recorded in await self._events.read_stream(host_stream(host)):
            event, when = recorded.event, f"{moment_of(recorded.recorded_us):%Y-%m-%d %H:%M} UTC"
            if isinstance(event, RemovalOrdered) and (event.kind, event.point) == (kind, point):
                why = f"was removed on {when}: {'; '.join(event.reasons)} ({event.tier})."
            elif isinstance(event, PointTrashed) and (event.kind, event.point) == (kind, point):
                why = why or f"was moved to the trash on {when}."
            elif isinstance(event, PointLost) and (event.kind, event.point) == (kind, point):
                why = f"was declared lost on {when}: {event.reason}"
        if not why:
            return NotThere(f"There is no {kind} {point} of {host}.", f"/hosts/{host} lists them.")
        state = self._live.state.hosts.get(host, HostState())
        hint = f"/hosts/{host} lists what is kept."
        if point_key(kind, point) in state.trash:
            hint = f"It is in the trash: `backup-manager undelete {host} {point_key(kind, point)}` brings it back."
        return Gone(f"The {kind} {point} of {host} {why}", hint)


def kind_of_name(name: str) -> Kind:
    """Whether a name is that of a snapshot or of a golden copy. Raises NotThere."""
    for kind, parse in ((Kind.SNAPSHOT, parse_snapshot_name), (Kind.GOLDEN, parse_golden_name)):
        with suppress(NameRefused):
            parse(name)
            return kind
    raise NotThere(
        f"{name[:100]!r} is not the name of a restore point.", "A snapshot is called 2026-03-06_0800, a golden 2026-03."
    )


def in_order(then: HostState, now: HostState) -> list[tuple[datetime, Kind, str]]:
    """Snapshots and golden copies of which both states know, by the instant that they show, the oldest first."""
    return sorted(
        (instant(point), kind, name)
        for kind in (Kind.SNAPSHOT, Kind.GOLDEN)
        for name, point in then.points(kind).items()
        if name in now.points(kind)
    )


def instant(point: PointState) -> datetime:
    """The instant that a restore point shows: a golden copy that of its snapshot."""
    if isinstance(point, GoldenState):
        with suppress(NameRefused):
            return parse_snapshot_name(point.snapshot)
    return point.slot
