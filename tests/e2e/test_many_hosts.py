"""Three snapshotters and two schedulers on twenty hosts: each slot of each host is done exactly once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from services.cli.demo_home import build_home
from shared.domain.events import BackupRequested, Recorded, SnapshotCompleted, SnapshotFailed, SnapshotStarted
from tests.support.installation import installation, of_type

HOSTS = [f"host{number:02}" for number in range(1, 21)]


def slots_of(events: list[Recorded], kind: type[SnapshotStarted] | type[SnapshotCompleted]) -> Counter[tuple[str, str]]:
    found = of_type(events, kind)
    return Counter(
        (recorded.stream, str(recorded.event.slot)) for recorded in found if isinstance(recorded.event, kind)
    )


async def test_each_slot_of_each_host_is_done_exactly_once(place: Path) -> None:
    async with installation(place, HOSTS) as system:
        for host in HOSTS:
            build_home(system.source(host), files=100)
        await system.start(snapshotters=3, schedulers=2)
        await system.wait_for(
            lambda events: len(of_type(events, SnapshotCompleted)) >= 20, what="The first slot of all hosts"
        )
        for round_number in (2, 3):
            await system.publish("backup.trigger")
            wanted = 20 * round_number
            await system.wait_for(
                lambda events: len(of_type(events, SnapshotCompleted)) >= wanted,  # noqa: B023  # used before it changes
                what=f"Round {round_number}",
            )
        events = await system.events()
        completed, started = slots_of(events, SnapshotCompleted), slots_of(events, SnapshotStarted)

        assert set(completed.values()) == {1}
        assert started == completed
        assert {stream for stream, _ in completed} == {f"host-{host}" for host in HOSTS}
        assert of_type(events, SnapshotFailed) == []
        requests = Counter(
            (recorded.stream, str(recorded.event.slot))
            for recorded in of_type(events, BackupRequested)
            if isinstance(recorded.event, BackupRequested)
        )
        assert len(requests) == 40
        assert set(requests.values()) == {1}
        for host in HOSTS:
            assert len(system.snapshots(host)) == sum(stream == f"host-{host}" for stream, _ in completed)
        await system.cli("audit")
        assert (
            len(
                {
                    str(recorded.event.worker)
                    for recorded in of_type(events, SnapshotStarted)  # every worker took part
                    if isinstance(recorded.event, SnapshotStarted)
                }
            )
            == 3
        )
