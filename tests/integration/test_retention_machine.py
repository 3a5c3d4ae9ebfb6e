"""Whatever happens to a host over years, in whatever order: what a guard protects is there, and log and drive agree."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from services.retention.facts import facts_of
from shared.adapters.restore_points import FOLDERS
from shared.adapters.trash import bring_back, contents
from shared.domain.errors import PointHalfGone
from shared.domain.events import HoldPlaced, HoldReleased, Kind, PlanConfirmed, PointUndeleted, Quality
from shared.domain.inventory import hold_of
from shared.domain.names import archive_name, golden_name, snapshot_name
from shared.domain.restore_points import Facts, Hold, Point
from shared.domain.retention import plan
from tests.support.builders import HOST, SLOT, build, some_settings
from tests.support.fuses import Fuse, FusedLog, lay
from tests.support.places import new_place
from tests.support.retention_limits import Limits, is_whole
from tests.support.retention_rules import complete
from tests.support.servers import Database, SharedPostgres
from tests.support.stock import put_archive, put_golden, put_snapshot
from tests.support.thinning import DAY, HOUR, Bench, Crash, bench, make_time_settable, new_worker

POLICIES = [
    {"hourly_retention_hours": 3, "daily_retention_days": 1, "retention_months": 1, "tar_retention_days": 1},
    {"hourly_retention_hours": 24, "daily_retention_days": 4, "retention_months": 2, "tar_retention_days": 2},
    {"hourly_retention_hours": 1, "daily_retention_days": 9, "retention_months": 1, "tar_retention_days": 1},
]
STEPS = [timedelta(minutes=20), HOUR, HOUR, 5 * HOUR, DAY, 2 * DAY, 8 * DAY, 40 * DAY]
SKEWS = [timedelta(0), timedelta(0), timedelta(0), -2 * HOUR, 30 * HOUR, -10 * DAY, 10 * DAY]
QUALITIES = [Quality.COMPLETE, Quality.COMPLETE, Quality.COMPLETE, Quality.DEGRADED, Quality.SUSPECT]
EXAMPLES, STEPS_EACH = 11, 35
_Result = TypeVar("_Result")


class Machine(RuleBasedStateMachine):
    """A host. `now` is the true time, which the log has; the worker's clock is off by `skew`."""

    runner: ClassVar[asyncio.Runner]
    log: ClassVar[FusedLog]
    admin: ClassVar[asyncpg.Connection]
    fuse: ClassVar[Fuse]
    root: ClassVar[Path]
    numbers = count()
    seen: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.now, self.skew = SLOT, timedelta(0)
        self.made: dict[str, Point] = {}
        self.undeleted: dict[str, datetime] = {}
        self.doomed: set[str] = set()
        self.foreign: dict[Path, str] = {}
        self.readers: dict[str, int] = {}
        self.settled = True
        self.stack = AsyncExitStack()
        self.place = self.do(self._begin())

    async def _begin(self) -> Bench:
        await self.admin.execute("SET session_replication_role = replica; TRUNCATE log.events CASCADE")
        root = self.root / str(next(self.numbers))
        root.mkdir()
        start = msgspec.structs.replace(some_settings(), **POLICIES[0])
        return await self.stack.enter_async_context(bench(root, self.log, self.admin, start, SLOT))

    def do(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.stop_reading()
        self.seen["purged"] += len(self.made) - len(self._in_place()) - len(contents(self.place.folder))
        self.do(self.stack.aclose())

    # What happens

    @initialize(hours=st.lists(st.sampled_from([1, 1, 1, 2, 9]), min_size=5, max_size=9))
    def it_was_backed_up_for_a_while(self, hours: list[int]) -> None:
        for each in hours:
            self.back_up(each * HOUR, Quality.COMPLETE)

    @rule(step=st.sampled_from(STEPS))
    def time_passes(self, step: timedelta) -> None:
        self.now += step
        self._set_time()

    @rule(skew=st.sampled_from(SKEWS), synchronised=st.booleans())
    def the_clock_jumps(self, skew: timedelta, synchronised: bool) -> None:
        self.skew, self.place.clock.synchronised = skew, synchronised
        self._set_time()

    def _set_time(self) -> None:
        self.do(self.place.set_time(self.now + self.skew, log=self.now))

    @rule(step=st.sampled_from(STEPS[:6]), quality=st.sampled_from(QUALITIES))
    def back_up(self, step: timedelta, quality: Quality) -> None:
        self.time_passes(step)
        slot = (self.now + self.skew).replace(second=0, microsecond=0)
        point = Point(kind=Kind.SNAPSHOT, name=snapshot_name(slot), slot=slot, quality=quality)
        if point.key not in self.made:
            self.made[point.key] = point
            self.do(self.place.tell(*put_snapshot(self.place.folder, slot, quality=quality)))

    @rule(days=st.integers(1, 3), agrees=st.sampled_from([True, True, False]))
    def it_goes_on_as_usual(self, days: int, agrees: bool) -> None:
        self.the_clock_jumps(timedelta(0), synchronised=True)
        for _ in range(days):
            for step in (2 * HOUR, 3 * HOUR, 19 * HOUR):
                self.back_up(step, Quality.COMPLETE)
            self.pack()
            if agrees:
                self.a_person_agrees()
            self.thin_out()

    @rule()
    def pack(self) -> None:
        newest = self._current()
        if newest is not None:
            name = archive_name(HOST, snapshot_name(newest.slot), "tar.gz")
            self._put(Point(kind=Kind.ARCHIVE, name=name, slot=newest.slot))

    @rule()
    def keep_a_golden_copy(self) -> None:
        newest = self._current()
        if newest is not None:
            self._put(Point(kind=Kind.GOLDEN, name=golden_name(newest.slot, UTC), slot=newest.slot))

    def _current(self) -> Point | None:
        target = self.place.folder.link_target("current")
        return None if target is None else self.made.get(f"snapshot/{target.removeprefix('hourly/')}")

    def _put(self, point: Point) -> None:
        if point.key in self.made:
            return
        self.made[point.key] = point
        if point.kind is Kind.ARCHIVE:
            self.do(self.place.tell(*put_archive(self.place.folder, point.slot)))
        else:
            self.do(self.place.tell(*put_golden(self.place.folder, point.slot, point.name)))

    @rule(which=st.integers(0, 60))
    def hold(self, which: int) -> None:
        names = sorted(point.name for point in self.made.values() if point.kind is Kind.SNAPSHOT)
        pinned = names[which % len(names)] if which < 50 else None
        self.do(self.place.tell(build(HoldPlaced, pinned=pinned)))

    @rule()
    def release(self) -> None:
        self.do(self.place.tell(build(HoldReleased)))

    @rule(which=st.integers(0, 9), told=st.booleans())
    def undelete(self, which: int, told: bool) -> None:
        if not (lying := contents(self.place.folder)):
            return
        found = lying[which % len(lying)]
        with suppress(PointHalfGone):
            bring_back(self.place.folder, found)
            self.place.folder.point_links()
            self.undeleted[found.key] = self.now
            if told and self.settled:
                self.do(self.place.tell(build(PointUndeleted, kind=found.kind, point=found.name)))
            else:
                self.settled = False

    @rule(which=st.integers(0, 20))
    def read(self, which: int) -> None:
        keys = sorted(self._in_place() - self.readers.keys())
        if keys:
            point = self.made[keys[which % len(keys)]]
            self.readers[point.key] = os.open(self.place.path / FOLDERS[point.kind] / point.name, os.O_RDONLY)
            fcntl.flock(self.readers[point.key], fcntl.LOCK_SH)

    @rule()
    def stop_reading(self) -> None:
        while self.readers:
            os.close(self.readers.popitem()[1])

    @rule(policy=st.sampled_from(POLICIES), told=st.sampled_from([True, True, False]))
    def the_policy_changes(self, policy: dict[str, int], told: bool) -> None:
        self.do(self.place.change_settings(**policy))
        if told:
            self.do(self.place.tell_settings(changed=("HOURLY_RETENTION_HOURS",)))

    @rule()
    def a_person_agrees(self) -> None:
        made = plan(self._facts_of_worker(), self.place.settings.policy(), self.place.clock.at, self._hold())
        if made.removals:
            points = tuple(verdict.point.key for verdict in made.removals)
            self.do(self.place.tell(build(PlanConfirmed, points=points)))

    def _facts_of_worker(self) -> Facts:
        return facts_of(self.do(self.place.state()), self.place.drive(), None, self.place.clock.at)

    @rule(folder=st.sampled_from(["hourly", "archives", "monthly", ".trash"]), number=st.integers(0, 3))
    def a_person_puts_a_file_there(self, folder: str, number: int) -> None:
        path = self.place.path / folder / f"notes-{number}"
        path.write_text("mine")
        self.foreign[path] = "mine"

    # Retention

    @rule()
    def thin_out(self) -> None:
        self._run()
        self.settled = True

    @rule(steps=st.integers(0, 60))
    def thin_out_and_die(self, steps: int) -> None:
        self._run(steps=steps)

    @rule(calls=st.integers(0, 30))
    def thin_out_and_lose_the_log(self, calls: int) -> None:
        self._run(calls=calls)

    def _run(self, *, steps: int | None = None, calls: int | None = None) -> None:
        self.time_passes(timedelta(minutes=1))
        before, limits = self._in_place(), Limits(self)
        self.doomed |= limits.due
        self.fuse.left, self.log.away_after = steps, calls
        try:
            self.do(self.place.run(self.place.clock.at))
        except Crash:
            self.place.retention = new_worker(self.place.settings, self.place.store, self.log, self.place.clock)
        finally:
            self.fuse.left = self.log.away_after = None
        self.settled = False
        removed = before - self._in_place()
        limits.check([self.made[key] for key in removed])
        self.seen.update(runs=1, removed=len(removed))

    # What always holds

    @invariant()
    def every_point_is_whole_or_was_due(self) -> None:
        there = self._in_place()
        lying = {found.key: found for found in contents(self.place.folder)}
        for key, point in self.made.items():
            if key in there:
                assert is_whole(self.place.path / FOLDERS[point.kind], point), key
                assert key not in lying
            elif key not in self.doomed:
                found = lying[key]
                assert is_whole(self.place.path / ".trash" / str(found.run) / point.kind, point), key

    @invariant()
    def the_newest_three_are_there(self) -> None:
        whole = sorted(complete(self.made.values()), key=lambda point: point.slot)
        assert {point.key for point in whole[-3:]} <= self._in_place()

    @invariant()
    def what_is_not_ours_is_untouched(self) -> None:
        assert {path: path.read_text() for path in self.foreign} == self.foreign

    @invariant()
    def log_and_drive_agree(self) -> None:
        if self.settled:
            self.do(self.place.agree())

    def _in_place(self) -> frozenset[str]:
        return self.place.drive().points

    def _hold(self) -> Hold | None:
        return hold_of(self.do(self.place.state()))


@pytest.fixture
def fuse(monkeypatch: pytest.MonkeyPatch) -> Fuse:
    made = Fuse()
    lay(made, monkeypatch)
    return made


@pytest.fixture
def machine(shared_server: SharedPostgres, fuse: Fuse) -> Iterator[type[Machine]]:
    """The machine on a database of its own, in which time can be set."""
    with asyncio.Runner() as runner, new_place() as root:
        stack = AsyncExitStack()
        database: Database = runner.run(stack.enter_async_context(shared_server.fresh_database()))
        Machine.runner, Machine.root, Machine.fuse = runner, root, fuse
        Machine.log = FusedLog(database.worker_dsn, fuse)
        Machine.admin = runner.run(asyncpg.connect(database.admin_dsn))
        runner.run(make_time_settable(Machine.admin))
        yield Machine
        runner.run(Machine.log.close())
        runner.run(Machine.admin.close())
        runner.run(stack.aclose())


def test_nothing_that_is_protected_ever_goes(machine: type[Machine]) -> None:
    machine.seen.clear()
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS_EACH,
            deadline=None,
            phases=[Phase.generate],  # to find the shortest failure takes minutes; ask for it by hand
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert min(machine.seen[what] for what in ("runs", "removed", "purged")) > 0, machine.seen
