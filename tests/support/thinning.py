"""A host whose retention is worked on by ticks: a real drive, the real log, and a time that tests set for both."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import asyncpg
import msgspec

from services.retention.facts import Drive, look_at_drive
from services.retention.handler import Retention
from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import BusUnavailable
from shared.adapters.postgres import Appended, EventLog
from shared.adapters.store import HostFolder, Store
from shared.config import Settings
from shared.domain.events import AnyEvent, Job, NewEvent, PointPurged, PointTrashed, SettingsChanged
from shared.domain.host_state import HostState
from shared.domain.inventory import points_of
from shared.domain.messages import Tick
from shared.domain.names import SETTINGS_STREAM, HostName, host_stream, snapshot_name
from shared.domain.projection import evolve_host
from shared.domain.schedule import newest_slot
from shared.runtime.cancel import Cancels, CancelWish
from shared.runtime.host_log import HostLog
from shared.runtime.outbox import Outbox
from shared.runtime.rejected import Rejections
from shared.runtime.worker import Disposition
from tests.support.builders import HOST, MAIN, SLOT, STORE_UUID, build, new, some_settings
from tests.support.places import new_place
from tests.support.servers import Database
from tests.support.stock import put_archive, put_golden, put_snapshot

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
START: Final = SLOT + timedelta(minutes=1)
_Event = TypeVar("_Event")
_SET_TIME: Final = """greatest((SELECT t.at FROM log.test_time t),
    (SELECT max(e.recorded_at) FROM log.events e WHERE e.stream = _stream))"""
SIX: Final = tuple(SLOT - hours * HOUR for hours in range(6))
EXPIRED_NAMES: Final = tuple(snapshot_name(SLOT - hours * HOUR) for hours in (4, 3))
EXPIRED: Final = [f"snapshot/{name}" for name in EXPIRED_NAMES]


class SetClock(SystemClock):
    """A clock that stands where a test puts it. Nobody waits by it: `meanwhile` happens instead."""

    def __init__(self, now: datetime) -> None:
        self.at = now
        self.synchronised = True
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    def now(self) -> datetime:
        return self.at

    def unix_ms(self) -> int:
        return int(self.at.timestamp() * 1000)

    def is_synchronised(self) -> bool:
        return self.synchronised

    async def sleep(self, seconds: float) -> None:
        if self.meanwhile is not None:
            await self.meanwhile()


class WatchedLog(EventLog):
    """The event log of a worker; a test can do something just before or after an event is recorded."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self._before: dict[type[AnyEvent], Callable[[], Awaitable[None]]] = {}
        self._after: dict[type[AnyEvent], Callable[[], Awaitable[None]]] = {}

    def once_before(self, kind: type[AnyEvent], do: Callable[[], Awaitable[None]]) -> None:
        """Do this before the next event of a type is recorded."""
        self._before[kind] = do

    def once_after(self, kind: type[AnyEvent], do: Callable[[], Awaitable[None]]) -> None:
        """Do this after the next event of a type was recorded."""
        self._after[kind] = do

    async def append(self, stream: str, expected_version: int | None, events: Sequence[NewEvent]) -> Appended:
        kinds = {type(event.event) for event in events}
        await self._do(self._before, kinds)
        appended = await super().append(stream, expected_version, events)
        await self._do(self._after, kinds)
        return appended

    async def _do(self, hooks: dict[type[AnyEvent], Callable[[], Awaitable[None]]], kinds: set[type[AnyEvent]]) -> None:
        for kind in kinds.intersection(hooks):
            await hooks.pop(kind)()


class Crash(Exception):
    """The worker dies here: what it had open is closed, and it does nothing more."""


async def crash() -> None:
    raise Crash


class NoBus:
    """A bus that is away: nobody's cancels are heard, and tests call runs off themselves."""

    async def last_cancel(self, host: HostName) -> None:
        raise BusUnavailable("There is no bus in this test.")


class OwnCancels(Cancels):
    """Runs are called off by the test itself."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(cast("Any", NoBus()), Rejections(log))
        self._newest: CancelWish | None = None

    @contextmanager
    def wish(self, host: HostName, slot: datetime, restore: str = "") -> Iterator[CancelWish]:
        with super().wish(host, slot) as self._newest:
            yield self._newest

    def call_off(self, by: str) -> None:
        """Call off the newest run."""
        assert self._newest is not None
        self._newest.ask(by)


async def make_time_settable(admin: asyncpg.Connection) -> None:
    """Let the event log of a test's database take its time from a row. In each event stream time goes forward."""
    await admin.execute("CREATE TABLE log.test_time AS SELECT clock_timestamp() AS at")
    await admin.execute("GRANT SELECT ON log.test_time TO backup_owner")
    definition = await admin.fetchval("SELECT pg_get_functiondef('log.append'::regproc)")
    assert definition.count("greatest(clock_timestamp(), last_at)") == 1
    await admin.execute(definition.replace("greatest(clock_timestamp(), last_at)", _SET_TIME))


@dataclass
class Bench:
    """One host, and a worker for it. `clock` is the worker's; `admin` sets that of the log."""

    store: Store
    folder: HostFolder
    log: WatchedLog
    admin: asyncpg.Connection
    settings: Settings
    clock: SetClock
    retention: Retention
    cancels: OwnCancels
    host: HostName = HOST

    @property
    def stream(self) -> str:
        return host_stream(self.host)

    @property
    def path(self) -> Path:
        return self.folder.path

    async def set_time(self, now: datetime, *, log: datetime | None = None) -> None:
        """Make it this time, for the worker and for the log."""
        self.clock.at = now
        await self.admin.execute("UPDATE log.test_time SET at = $1", log or now)

    async def tell(self, *events: AnyEvent | NewEvent) -> None:
        """Let the log hear of something."""
        told = [event if isinstance(event, NewEvent) else new(event) for event in events]
        await self.log.append(self.stream, None, told)

    async def tell_settings(self, changed: tuple[str, ...] = ("TZ",)) -> None:
        """Let the log hear of the worker's settings."""
        fact = build(SettingsChanged, settings=self.settings.described(), changed=changed)
        await self.log.append(SETTINGS_STREAM, None, [new(fact)])

    async def change_settings(self, **fields: Any) -> None:
        """Other settings for this host's worker."""
        self.settings = self.retention.settings = msgspec.structs.replace(self.settings, **fields)

    async def run(self, slot: datetime | None = None) -> Disposition:
        """Work off the tick that is due now."""
        due = slot or newest_slot(self.settings.tar_interval_hours, self.clock.at)
        return await self.retention.handle(Tick(Job.RETENTION, MAIN, self.host, due))

    async def run_at(self, now: datetime) -> Disposition:
        """Make it this time and work off the tick that is due."""
        await self.set_time(now)
        return await self.run(now.replace(microsecond=0))

    async def state(self) -> HostState:
        """What the log tells, from its beginning."""
        state = HostState()
        for recorded in await self.log.read_stream(self.stream):
            evolve_host(state, recorded)
        return state

    async def events(self, kind: type[_Event]) -> list[_Event]:
        """The events of a type, oldest first."""
        recorded = [each.event for each in await self.log.read_stream(self.stream)]
        return cast("list[_Event]", [event for event in recorded if isinstance(event, kind)])

    async def order(self) -> list[str]:
        """The names of the types of all events, oldest first."""
        return [type(each.event).__name__ for each in await self.log.read_stream(self.stream)]

    def drive(self) -> Drive:
        """What lies there now."""
        return look_at_drive(self.folder, finish_moves=True)

    async def purged(self) -> list[str]:
        """What was purged, in order."""
        return [f"{event.kind}/{event.point}" for event in await self.events(PointPurged)]

    async def agree(self) -> None:
        """Make sure that log and drive tell the same, and that nothing was told twice."""
        state, drive = await self.state(), self.drive()
        assert {point.key for point in points_of(state)} == drive.points
        known = {(trashed.run, key) for key, trashed in state.trash.items()}
        assert known == {(lying.run, lying.key) for lying in drive.trash}
        told: list[PointTrashed | PointPurged] = [*await self.events(PointTrashed), *await self.events(PointPurged)]
        assert max(Counter((type(one), one.run, one.kind, one.point) for one in told).values(), default=1) == 1

    async def stock(self, snapshots: Iterable[datetime] = (), archives: Iterable[datetime] = ()) -> None:
        """Put restore points there, and let the log hear of them as if each had been made at its slot."""
        before = await self.admin.fetchval("SELECT at FROM log.test_time")
        made = [(slot, put_snapshot) for slot in snapshots] + [(slot, put_archive) for slot in archives]
        for slot, put in sorted(made, key=lambda each: each[0]):
            await self.admin.execute("UPDATE log.test_time SET at = $1", slot)
            await self.tell(*put(self.folder, slot))
        await self.admin.execute("UPDATE log.test_time SET at = $1", before)

    async def stock_golden(self, slot: datetime, name: str) -> None:
        """Put a golden copy there and let the log hear of it."""
        await self.tell(*put_golden(self.folder, slot, name))


def new_worker(settings: Settings, store: Store, log: EventLog, clock: SystemClock) -> Retention:
    """A retention worker with an outbox of its own."""
    return Retention(settings, store, HostLog(log, Outbox(store, log)), OwnCancels(log), clock, "worker-1")


@asynccontextmanager
async def six_snapshots(database: Database, admin: asyncpg.Connection) -> AsyncIterator[Bench]:
    """A host with six hourly snapshots: the newest two are kept, one more as the floor, and the first of the day.

    The other two, `EXPIRED`, are to go.
    """
    log = WatchedLog(database.worker_dsn)
    await make_time_settable(admin)
    settings = some_settings(hourly_retention_hours=2, daily_retention_days=1, retention_months=1)
    with new_place() as root:
        async with bench(root, log, admin, settings) as made:
            await made.stock(SIX)
            yield made
    await log.close()


@asynccontextmanager
async def bench(
    root: Path, log: WatchedLog, admin: asyncpg.Connection, settings: Settings, now: datetime = START
) -> AsyncIterator[Bench]:
    """A host with nothing on a new store, whose policy has been in force for long."""
    host = settings.hosts[0].name
    settings = msgspec.structs.replace(settings, backup_root=root / "drive")
    settings.backup_root.mkdir()
    store = Store.create(settings.backup_root, MAIN, STORE_UUID)
    clock = SetClock(now)
    try:
        with store.folder(host) as folder:
            worker = new_worker(settings, store, log, clock)
            cancels = cast("OwnCancels", worker.cancels)
            made = Bench(store, folder, log, admin, settings, clock, worker, cancels, host)
            await made.set_time(now - 400 * DAY)
            await made.tell_settings()
            await made.set_time(now)
            yield made
    finally:
        store.close()
