"""A tick for a slot to come is refused: slots only move forward, so it would settle all slots until then."""

from __future__ import annotations

from pathlib import Path

from services.cli.demo_home import build_home
from shared.domain.events import MessageRejected, SnapshotCompleted
from shared.domain.writers import Service
from tests.support.installation import installation, of_type

HOST = "web"


async def test_a_forged_tick_of_the_year_9999_does_not_stop_the_backups_of_a_host(place: Path) -> None:
    async with installation(place, [HOST]) as system:
        build_home(system.source(HOST), files=100)
        await system.start()
        await system.wait_for(lambda events: len(of_type(events, SnapshotCompleted)) == 1, what="The first snapshot")
        before = await system.one_more_run(HOST)  # so that the first tick is settled and the subject is free
        rejected: list[object] = []
        while not rejected:
            await system.publish(f"tick.snapshot.main.{HOST}", b'{"slot": "9999-12-31T00:00:00Z"}', Service.SCHEDULER)
            events = await system.one_more_run(HOST)
            rejected = [recorded.event for recorded in of_type(events, MessageRejected)]
        assert isinstance(rejected[0], MessageRejected)
        assert "lies in the future" in rejected[0].reason
        done = of_type(events, SnapshotCompleted)
        assert len(done) > len(of_type(before, SnapshotCompleted))
