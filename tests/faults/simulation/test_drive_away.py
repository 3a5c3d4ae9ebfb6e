"""One story in simulated time: what was worked off comes again while the drive is not there."""

from __future__ import annotations

import asyncio

from tests.faults.simulation.run import simulate
from tests.faults.simulation.world import World

HOUR_SECONDS = 3600.0


async def ticks_come_again_without_the_drive(world: World) -> None:
    await asyncio.sleep(3 * HOUR_SECONDS)
    world.disks.mounted = None
    for message in list(world.bus.history):
        world.bus.store(message.stream, message.subject, message.body)
    await asyncio.sleep(HOUR_SECONDS)
    world.disks.mounted = world.main


def test_a_tick_that_comes_again_while_the_drive_is_away_does_not_fail_a_slot_that_is_settled() -> None:
    report = simulate(1, days=1, faults=False, meanwhile=ticks_come_again_without_the_drive)
    assert report.wrong == []
    assert report.counts["SnapshotCompleted"] > 5
    assert (report.counts["SnapshotFailed"], report.counts["ArchiveFailed"]) == (0, 0)
