"""Stories in simulated time: what months of trouble found once, each told by itself."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from tests.faults.simulation.run import simulate
from tests.faults.simulation.world import World

HOUR_SECONDS = 3600.0


def everything_comes_again(world: World) -> None:
    """Every message that was worked off is handed out once more."""
    for message in list(world.bus.history):
        world.bus.store(message.stream, message.subject, message.body)


async def ticks_come_again_without_the_drive(world: World) -> None:
    await asyncio.sleep(3 * HOUR_SECONDS)
    world.disks.mounted = None
    everything_comes_again(world)
    await asyncio.sleep(HOUR_SECONDS)
    world.disks.mounted = world.main


async def ticks_come_again_without_the_log(world: World) -> None:
    await asyncio.sleep(26 * HOUR_SECONDS)
    world.logs.set_away(away=True)
    everything_comes_again(world)
    await asyncio.sleep(2 * HOUR_SECONDS)
    world.logs.set_away(away=False)
    world.log_back = world.loop.time()


async def the_clock_is_a_day_ahead_for_some_hours(world: World) -> None:
    await asyncio.sleep(26 * HOUR_SECONDS)
    world.offset = timedelta(days=1)
    await asyncio.sleep(6 * HOUR_SECONDS)
    world.offset = timedelta()


async def a_start_on_a_full_drive_with_links_to_set(world: World) -> None:
    await asyncio.sleep(6 * HOUR_SECONDS)
    for host in world.main.root.entries.values():
        host.entries.pop("current", None)
    world.main.full = True
    for process in world.alive():
        process.stop.set()
    await asyncio.sleep(2 * HOUR_SECONDS)
    world.main.full = False


def test_a_tick_that_comes_again_while_the_drive_is_away_does_not_fail_a_slot_that_is_settled() -> None:
    report = simulate(1, days=1, faults=False, meanwhile=ticks_come_again_without_the_drive)
    assert report.wrong == []
    assert report.counts["SnapshotCompleted"] > 5
    assert (report.counts["SnapshotFailed"], report.counts["ArchiveFailed"]) == (0, 0)


def test_a_tick_that_comes_again_while_the_log_is_away_does_not_settle_its_slot_twice() -> None:
    report = simulate(1, days=2, faults=False, meanwhile=ticks_come_again_without_the_log)
    assert report.wrong == []
    assert report.counts["SnapshotCompleted"] > 10


def test_a_clock_that_was_a_day_ahead_makes_nothing_happen_twice_or_never() -> None:
    report = simulate(1, days=4, faults=False, meanwhile=the_clock_is_a_day_ahead_for_some_hours)
    assert report.wrong == []
    assert report.counts["SnapshotCompleted"] > 20


def test_services_start_on_a_drive_that_has_no_room_for_a_link() -> None:
    report = simulate(1, days=1, faults=False, meanwhile=a_start_on_a_full_drive_with_links_to_set)
    assert report.wrong == []
    assert report.counts["SnapshotCompleted"] > 5
