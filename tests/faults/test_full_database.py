"""The drive of the event log is full: backups go on, what they say waits in the spool, and nothing of it is lost."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest

from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import Bus
from shared.domain.errors import LogUnavailable
from shared.domain.events import AlertRaised, Job, NewEvent, Recorded, SnapshotCompleted
from shared.domain.ids import derived_id
from shared.domain.messages import Tick
from shared.domain.names import host_stream, parse_host_name
from shared.domain.writers import Service
from tests.faults.conftest import Tell
from tests.faults.filling import ROOMS, make_room
from tests.support.backups import mounted
from tests.support.builders import MAIN, build
from tests.support.installation import Installation, installation
from tests.support.places import new_place

HOST: Final = "web"
FILLER: Final = parse_host_name("filler")
SIZE: Final = "size=256m,nr_inodes=4k"
LEVELS: Final = {
    "bytes": (0, 4_096, 65_536, 262_144, 1_000_000, 4_000_000, 12_000_000, 20_000_000),
    "inodes": (0, 1, 2, 3, 4, 6, 8, 12),
}
PATIENCE_SECONDS: Final = 90.0
LARGE: Final = 400_000

pytestmark = [
    pytest.mark.campaign,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount"),
    pytest.mark.timeout(280),
]


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


@pytest.fixture
async def running(place: Path) -> AsyncIterator[Installation]:
    """A whole system whose event log has a small drive of its own."""
    async with AsyncExitStack() as stack:
        (place / "data").mkdir(mode=0o711)
        await stack.enter_async_context(mounted(place / "data/postgres", "-t", "tmpfs", "-o", SIZE, "tmpfs"))
        made = await stack.enter_async_context(installation(place, [HOST]))
        (made.source(HOST) / "home").mkdir(parents=True)
        (made.source(HOST) / "home/file").write_text("content")
        await made.start()
        await made.one_more_run(HOST)
        yield made


async def write_until_full(running: Installation, number: int) -> bool:
    """Have the log itself take what room is left; whether it did."""
    log = running.open_log(Service.RETENTION)
    try:
        for step in range(120):
            event = build(AlertRaised, evidence=os.urandom(LARGE // 2).hex())
            await log.append(host_stream(FILLER), None, [NewEvent(derived_id("filler", str(number), str(step)), event)])
    except LogUnavailable:
        return True
    finally:
        await log.close()
    return False


async def kill(running: Installation) -> bool:
    """Kill the server, so that it has to start with the room that is left."""
    assert running.system is not None
    assert running.system.postgres is not None
    os.kill(running.system.postgres.pid, signal.SIGKILL)
    return True


async def one_more_snapshot(running: Installation) -> None:
    """Have one more slot come until there is one more on the drive: as the scheduler does, which keeps it in memory.

    What a person asks for waits for the log instead.
    """
    assert running.connections is not None
    before = len(running.snapshots(HOST))
    bus = await Bus.connect(running.connections.nats_url, running.bus_user(Service.SCHEDULER))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(running.snapshots(HOST)) == before:
                slot = SystemClock().now().replace(microsecond=0)
                await bus.publish_tick(Tick(Job.SNAPSHOT, MAIN, parse_host_name(HOST), slot))
                await asyncio.sleep(0.5)
    except TimeoutError:
        raise AssertionError(f"There is no snapshot without the log.\n{running.journal()}") from None
    finally:
        await bus.close()


def told_of(events: Sequence[Recorded]) -> Counter[str]:
    """The snapshots that the log knows, and how often."""
    return Counter(one.event.snapshot for one in events if isinstance(one.event, SnapshotCompleted))


@pytest.mark.parametrize("what", LEVELS)
async def test_backups_go_on_while_the_log_has_no_room_and_are_all_in_it_afterwards(
    running: Installation, what: str, tell: Tell
) -> None:
    drive, room, levels = running.place / "data/postgres", ROOMS[what], LEVELS[what]
    away = 0
    for number, level in enumerate(levels):
        room.leave(drive, level)
        away += await (kill(running) if what == "inodes" else write_until_full(running, number))
        await one_more_snapshot(running)
        make_room(drive)
        names = {path.name for path in running.snapshots(HOST)}
        told = told_of(
            await running.wait_for(
                lambda events: told_of(events).keys() >= names,  # noqa: B023  # used before it changes
                what=f"The log's hearing of {len(names)} snapshots, with {level} {what} left before",
            )
        )
        assert dict(told) == dict.fromkeys(names, 1)
    tell(f"{len(levels)} times too few {what} for the log, away {away} times; {len(names)} snapshots, each told once")
    assert away >= len(levels) / 2
