"""From the trash to nothing, and back: after the grace period, never what is held, and whole whatever ends the run."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from shared.adapters.trash import bring_back, contents
from shared.domain.events import (
    AlertRaised,
    HoldPlaced,
    HoldReleased,
    Kind,
    PointPurged,
    PointUndeleted,
    PurgeOrdered,
    RetentionCompleted,
)
from shared.domain.host_state import point_key
from shared.domain.names import archive_name, snapshot_name
from tests.support.builders import HOST, SLOT, build
from tests.support.servers import BOUND_SECONDS, Database
from tests.support.stock import put_archive
from tests.support.thinning import DAY, EXPIRED, EXPIRED_NAMES, HOUR, SIX, START, Bench, six_snapshots

pytestmark = pytest.mark.timeout(BOUND_SECONDS)

GRACE = timedelta(hours=24)


@pytest.fixture
async def place(database: Database, admin: asyncpg.Connection) -> AsyncIterator[Bench]:
    async with six_snapshots(database, admin) as made:
        yield made


async def test_what_was_removed_is_purged_only_after_the_grace_period(place: Bench) -> None:
    await place.run()
    await place.run_at(START + GRACE)
    assert await place.purged() == []
    await place.run_at(START + GRACE + timedelta(seconds=1))
    assert set(await place.purged()) == set(EXPIRED)
    assert os.listdir(place.path / ".trash") == []
    await place.agree()


async def test_the_grace_period_is_counted_by_the_time_of_the_log(place: Bench) -> None:
    await place.run()
    await place.set_time(START + GRACE + HOUR, log=START + 2 * HOUR)
    await place.run()
    assert await place.purged() == []


async def test_nothing_is_purged_while_the_clock_is_in_doubt(place: Bench) -> None:
    await place.run()
    place.clock.synchronised = False
    await place.run_at(START + 10 * DAY)
    assert await place.purged() == []


async def test_nothing_is_purged_while_the_inventory_is_in_doubt(place: Bench) -> None:
    await place.run()
    (place.path / "hourly" / snapshot_name(SLOT)).rename(place.path.parent / "elsewhere")
    await place.run_at(START + GRACE + HOUR)
    assert await place.purged() == []


async def test_what_is_held_is_not_purged_until_it_is_released(place: Bench) -> None:
    await place.run()
    await place.tell(build(HoldPlaced, pinned=EXPIRED_NAMES[0]))
    await place.run_at(START + GRACE + HOUR)
    assert EXPIRED[0] not in await place.purged()
    assert EXPIRED[1] in await place.purged()
    await place.tell(build(HoldReleased))
    await place.run_at(START + GRACE + 2 * HOUR)
    assert EXPIRED[0] in await place.purged()


async def test_a_hold_that_comes_while_the_trash_is_emptied_stops_the_rest(place: Bench) -> None:
    await place.run()

    async def hold() -> None:
        await place.tell(build(HoldPlaced, pinned=snapshot_name(SLOT)))

    place.log.once_after(PointPurged, hold)
    await place.run_at(START + GRACE + HOUR)
    assert await place.purged() == EXPIRED[:1]


async def test_a_hold_that_comes_between_the_decision_and_the_purge_stops_it(place: Bench) -> None:
    await place.run()

    async def hold() -> None:
        await place.tell(build(HoldPlaced, pinned=snapshot_name(SLOT)))

    place.log.once_before(PurgeOrdered, hold)
    await place.run_at(START + GRACE + HOUR)
    assert await place.purged() == []
    assert {found.key for found in contents(place.folder)} == set(EXPIRED)
    await place.agree()


async def test_what_is_unrelated_delays_a_purge_only_until_it_is_decided_again(place: Bench) -> None:
    await place.run()

    async def happen() -> None:
        await place.tell(build(AlertRaised))

    place.log.once_before(PurgeOrdered, happen)
    await place.run_at(START + GRACE + HOUR)
    assert set(await place.purged()) == set(EXPIRED)
    ordered = [point_key(one.kind, one.point) for one in await place.events(PurgeOrdered)]
    assert ordered == await place.purged()


async def test_what_is_brought_back_while_the_trash_is_emptied_is_left_alone(place: Bench) -> None:
    await place.run()
    later = next(found for found in contents(place.folder) if found.key == EXPIRED[1])

    async def undelete() -> None:
        bring_back(place.folder, later)
        await place.tell(build(PointUndeleted, kind=Kind.SNAPSHOT, point=later.name))

    place.log.once_after(PointPurged, undelete)
    await place.run_at(START + GRACE + HOUR)
    assert (await place.events(RetentionCompleted))[-1].purged == 1
    await place.agree()


async def test_what_is_read_in_the_trash_is_purged_next_time(place: Bench) -> None:
    reader = os.open(place.path / "hourly" / EXPIRED_NAMES[0], os.O_RDONLY)
    try:
        await place.run()
        fcntl.flock(reader, fcntl.LOCK_SH)
        await place.run_at(START + GRACE + HOUR)
        assert EXPIRED[0] not in await place.purged()
    finally:
        os.close(reader)
    await place.run_at(START + GRACE + 2 * HOUR)
    assert EXPIRED[0] in await place.purged()


async def test_an_archive_goes_only_when_none_of_its_name_lies_in_the_trash(place: Bench) -> None:
    name = archive_name(HOST, snapshot_name(SIX[5]), "tar.gz")
    await place.stock(archives=SIX[3:6])
    await place.run()
    await place.change_settings(tar_retention_days=0)
    await place.tell_settings()
    await place.set_time(START + 25 * HOUR)
    await place.run()
    assert f"archive/{name}" in {lying.key for lying in contents(place.folder)}
    await place.tell(*put_archive(place.folder, SIX[5]))
    await place.run_at(START + 26 * HOUR)
    assert f"archive/{name}" in place.drive().points
    await place.run_at(START + 50 * HOUR)
    await place.run_at(START + 51 * HOUR)
    assert f"archive/{name}" not in place.drive().points
    await place.agree()
