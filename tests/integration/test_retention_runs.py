"""The retention on a real drive with the real log: nothing goes unless every guard agrees, and all of it is told."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import asyncpg
import pytest

from shared.adapters import process
from shared.adapters.trash import bring_back
from shared.domain.events import (
    AlertRaised,
    HoldPlaced,
    HoldReleased,
    HostFoundOffline,
    Kind,
    PlanConfirmed,
    PointPurged,
    PointTrashed,
    PointUndeleted,
    Quality,
    RemovalOrdered,
    RetentionCompleted,
    RetentionStarted,
    SettingsChanged,
)
from shared.domain.names import SETTINGS_STREAM, snapshot_name
from shared.runtime.worker import Done, RetryIn
from tests.support.builders import SLOT, build, new
from tests.support.servers import BOUND_SECONDS, Database, SharedPostgres
from tests.support.stock import names_in, put_snapshot
from tests.support.thinning import DAY, EXPIRED, HOUR, SIX, START, Bench, six_snapshots
from tests.support.trees import differences, snapshot_of

pytestmark = pytest.mark.timeout(BOUND_SECONDS)


@pytest.fixture
async def place(database: Database, admin: asyncpg.Connection) -> AsyncIterator[Bench]:
    async with six_snapshots(database, admin) as made:
        yield made


def keys(events: list[RemovalOrdered] | list[PointTrashed] | list[PointPurged]) -> list[str]:
    return [f"{event.kind}/{event.point}" for event in events]


async def nothing_goes(place: Bench, because: str) -> None:
    """A run removes nothing and says why: in its outcome, and once as an alert however often it runs."""
    before = snapshot_of(place.path / "hourly")
    for hours in (0, 1):
        await place.set_time(place.clock.at + hours * HOUR)
        assert await place.run(place.clock.at.replace(microsecond=0)) == Done()
    assert differences(before, snapshot_of(place.path / "hourly")) == []
    assert await place.events(RemovalOrdered) == []
    completed = await place.events(RetentionCompleted)
    assert all(because in " ".join(event.refused) for event in completed)
    assert [event.kind for event in await place.events(AlertRaised)] == ["retention_refused"]
    assert len(completed) == 2


# Removing


async def test_what_has_expired_goes_oldest_first_each_ordered_before_and_told_after(place: Bench) -> None:
    seen: list[tuple[str, set[str]]] = []

    async def look() -> None:
        seen.append(("ordered", names_in(place.folder, "hourly")))

    place.log.once_after(RemovalOrdered, look)
    assert await place.run() == Done()
    orders = await place.events(RemovalOrdered)
    assert keys(orders) == keys(await place.events(PointTrashed)) == EXPIRED
    assert {order.policy for order in orders} == {place.settings.policy().version()}
    assert all(order.covered_by for order in orders)
    steps = [name for name in await place.order() if not name.startswith("Snapshot")]
    assert steps == ["RetentionStarted", *["RemovalOrdered", "PointTrashed"] * 2, "RetentionCompleted"]
    assert seen == [("ordered", {snapshot_name(slot) for slot in SIX})]
    (completed,) = await place.events(RetentionCompleted)
    assert (completed.kept, completed.removed, completed.purged, completed.refused) == (4, 2, 0, ())
    assert {point.key for point in place.drive().trash} == set(EXPIRED)
    assert await place.run() == Done()
    assert len(await place.events(RetentionStarted)) == 1


async def test_what_is_being_read_by_another_process_stays_and_goes_next_time(place: Bench) -> None:
    reader = await process.start(["flock", "--shared", str(place.path / "hourly" / EXPIRED[0][9:]), "sh", "-c",
                                  "echo here; exec cat"], stdin=asyncio.subprocess.PIPE)  # fmt: skip
    async with reader:
        async for _ in reader.chunks():
            break
        await place.run()
        assert keys(await place.events(PointTrashed)) == EXPIRED[1:]
    await place.run_at(START + HOUR)
    assert EXPIRED[0] in keys(await place.events(PointTrashed))


async def test_what_began_to_be_read_after_the_plan_stays_too_without_an_order(place: Bench) -> None:
    with read(place, EXPIRED[1]) as begin:
        place.log.once_after(RetentionStarted, begin)
        await place.run()
    assert keys(await place.events(RemovalOrdered)) == EXPIRED[:1]
    assert (await place.events(RetentionCompleted))[0].removed == 1


@contextmanager
def read(place: Bench, key: str) -> Iterator[Callable[[], Awaitable[None]]]:
    opened = os.open(place.path / "hourly" / key.removeprefix("snapshot/"), os.O_RDONLY)

    async def begin() -> None:
        fcntl.flock(opened, fcntl.LOCK_SH)

    try:
        yield begin
    finally:
        os.close(opened)


async def test_what_a_person_brought_back_stays(place: Bench) -> None:
    await place.run()
    back = next(found for found in place.drive().trash if found.key == EXPIRED[1])
    bring_back(place.folder, back)
    await place.tell(build(PointUndeleted, kind=Kind.SNAPSHOT, point=back.name))
    await place.run_at(START + HOUR)
    assert EXPIRED[1] in place.drive().points
    assert keys(await place.events(PointTrashed)).count(EXPIRED[1]) == 1
    assert (await place.events(RetentionCompleted))[-1].refused == ()


async def test_a_hold_that_comes_between_two_removals_stops_the_rest(place: Bench) -> None:
    async def hold() -> None:
        await place.tell(build(HoldPlaced, pinned=snapshot_name(SLOT)))

    place.log.once_after(PointTrashed, hold)
    await place.run()
    assert keys(await place.events(PointTrashed)) == EXPIRED[:1]
    assert EXPIRED[1] in place.drive().points


async def test_a_hold_that_comes_between_plan_and_order_makes_it_decide_again(place: Bench) -> None:
    async def hold() -> None:
        await place.tell(build(HoldPlaced, pinned=snapshot_name(SLOT)))

    place.log.once_before(RemovalOrdered, hold)
    await place.run()
    assert await place.events(RemovalOrdered) == []
    assert set(EXPIRED) <= place.drive().points
    await place.tell(build(HoldReleased))
    await place.run_at(START + HOUR)
    assert set(EXPIRED) <= set(keys(await place.events(PointTrashed)))


async def test_whatever_else_happens_to_the_host_makes_it_decide_again_and_go_on(place: Bench) -> None:
    async def happen() -> None:
        await place.tell(build(HostFoundOffline))

    place.log.once_before(RemovalOrdered, happen)
    await place.run()
    assert keys(await place.events(RemovalOrdered)) == EXPIRED


async def test_a_snapshot_that_is_made_meanwhile_is_not_missed(place: Bench) -> None:
    async def back_up() -> None:
        await place.tell(*put_snapshot(place.folder, SLOT + timedelta(seconds=30), quality=Quality.DEGRADED))

    place.log.once_after(RetentionStarted, back_up)
    await place.run()
    (completed,) = await place.events(RetentionCompleted)
    assert completed.refused == ()
    assert set(EXPIRED) <= set(keys(await place.events(PointTrashed)))


# Refusing


async def test_nothing_goes_within_a_day_of_a_new_policy(place: Bench) -> None:
    await place.set_time(START - HOUR)
    await place.tell_settings(changed=("HOURLY_RETENTION_HOURS",))
    await place.set_time(START)
    await nothing_goes(place, "The policy changed")


async def test_nothing_goes_by_settings_that_are_not_the_ones_in_force(place: Bench) -> None:
    await place.change_settings(hourly_retention_hours=1)
    await nothing_goes(place, "The policy changed")


async def test_a_policy_that_changes_in_the_middle_stops_the_rest(place: Bench) -> None:
    async def change() -> None:
        fact = build(SettingsChanged, settings=place.settings.described(), changed=("TZ",))
        await place.log.append(SETTINGS_STREAM, None, [new(fact)])

    place.log.once_after(PointTrashed, change)
    await place.run()
    assert keys(await place.events(PointTrashed)) == EXPIRED[:1]


async def test_nothing_goes_while_the_clock_is_behind_the_log(place: Bench) -> None:
    await place.set_time(START, log=START + 3 * HOUR)
    await place.tell(build(HostFoundOffline))
    await nothing_goes(place, "The clock is in doubt")


async def test_nothing_goes_after_a_long_silence_until_the_clock_is_known_to_be_right(place: Bench) -> None:
    place.clock.synchronised = False
    await place.set_time(START + 10 * DAY)
    await nothing_goes(place, "The clock is in doubt")
    for hours in (2, 3, 4):
        await place.set_time(START + 10 * DAY + hours * HOUR)
        await place.tell(*put_snapshot(place.folder, SLOT + 10 * DAY + hours * HOUR))
    place.clock.synchronised = True
    await place.tell(build(PlanConfirmed, points=tuple(f"snapshot/{snapshot_name(slot)}" for slot in SIX)))
    await place.run_at(START + 10 * DAY + 5 * HOUR)
    assert set(EXPIRED) <= set(keys(await place.events(PointTrashed)))


async def test_nothing_goes_while_the_drive_lacks_what_the_log_knows(place: Bench) -> None:
    (place.path / "hourly" / snapshot_name(SIX[-1])).rename(place.path.parent / "elsewhere")
    await nothing_goes(place, "and the drive does not")


async def test_nothing_goes_while_the_log_lacks_what_the_drive_has(place: Bench) -> None:
    put_snapshot(place.folder, SLOT - 7 * HOUR)
    await nothing_goes(place, "and the log does not know it")


async def test_what_the_log_hears_of_a_moment_later_is_no_doubt(place: Bench) -> None:
    heard = put_snapshot(place.folder, SLOT + timedelta(seconds=30), quality=Quality.DEGRADED)

    async def hear() -> None:
        await place.tell(*heard)

    place.clock.meanwhile = hear
    await place.run()
    assert (await place.events(RetentionCompleted))[0].refused == ()


async def test_many_at_once_go_only_when_a_person_agrees_to_all_of_them(place: Bench) -> None:
    await place.stock([SLOT - hours * HOUR for hours in (6, 7)])
    await nothing_goes(place, "of this host. Look at them")
    expired = tuple(f"snapshot/{snapshot_name(SLOT - hours * HOUR)}" for hours in (6, 5, 4, 3, 2))
    await place.set_time(START + HOUR)
    await place.tell(build(PlanConfirmed, points=expired[1:]))
    await place.run_at(START + HOUR + timedelta(minutes=1))
    assert await place.events(RemovalOrdered) == []
    await place.tell(build(PlanConfirmed, points=expired))
    await place.run_at(START + HOUR + timedelta(minutes=2))
    assert set(keys(await place.events(PointTrashed))) == set(expired[:-1])


async def test_what_is_not_ours_is_told_once_and_never_touched(place: Bench) -> None:
    (place.path / "hourly" / "notes").write_text("mine")
    (place.path / "hourly" / "2020-01-01_0000").mkdir()
    (place.path / "archives" / "old.tar").write_text("mine")
    await place.run()
    await place.run_at(START + HOUR)
    assert [alert.kind for alert in await place.events(AlertRaised)] == ["foreign_entries"]
    assert (await place.events(RetentionCompleted))[1].foreign == (
        "hourly/2020-01-01_0000",
        "hourly/notes",
        "archives/old.tar",
    )
    assert (place.path / "archives" / "old.tar").read_text() == "mine"
    assert {"notes", "2020-01-01_0000"} <= names_in(place.folder, "hourly")


async def test_without_the_log_nothing_is_removed_and_the_tick_comes_again(
    place: Bench, shared_server: SharedPostgres
) -> None:
    await shared_server.kill()
    try:
        assert isinstance(await place.run(), RetryIn)
        assert names_in(place.folder, "hourly") == {snapshot_name(slot) for slot in SIX}
    finally:
        await shared_server.start()
    assert await place.run() == Done()
    assert keys(await place.events(PointTrashed)) == EXPIRED


async def test_a_log_that_goes_away_in_the_middle_stops_the_run_and_hears_of_all_of_it_later(
    place: Bench, shared_server: SharedPostgres
) -> None:
    place.log.once_after(RemovalOrdered, shared_server.kill)
    try:
        assert isinstance(await place.run(), RetryIn)
        assert len(names_in(place.folder, "hourly")) == 5
    finally:
        await shared_server.start()
    assert await place.run() == Done()
    assert await place.run() == Done()
    assert keys(await place.events(PointTrashed)) == EXPIRED
