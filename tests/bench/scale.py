"""Twenty hosts that are due at once: how long one snapshotter takes for all of them, and how long four take.

The whole system runs: scheduler, bus, log, snapshotters as processes, a real sshd. The homes are unchanged between the
rounds, as most are from one hour to the next; the number of snapshotters takes turns.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from shared.domain.events import SnapshotCompleted
from tests.bench.drive import fresh_drive
from tests.bench.homes import build_home
from tests.bench.options import Options
from tests.bench.samples import Samples
from tests.bench.table import Found, compared
from tests.support.installation import Installation, installation, of_type

HOSTS: Final = [f"host{number:02}" for number in range(1, 21)]
AT_MOST: Final = 0.6


async def measure(options: Options) -> Found:
    """Run the comparison."""
    files = options.size(20_000, quick=50)
    taken = {1: Samples(), 4: Samples()}
    async with fresh_drive(options.folder, "scale") as drive, installation(drive.path, HOSTS) as system:
        options.say(f"Making {len(HOSTS)} homes of {files:,} files ...")
        for host in HOSTS:
            await asyncio.to_thread(build_home, system.source(host) / "home", files)
        done = 0
        for number in range(options.rounds(4)):
            for snapshotters in (1, 4) if number % 2 == 0 else (4, 1):
                options.say(f"Round {number + 1}, {snapshotters} snapshotters ...")
                await system.start(snapshotters=snapshotters)
                done = await _all_due_are_done(system, done)
                await drive.settle()
                seconds, done = await _all_again(system, done)
                await system.stop()
                taken[snapshotters].add(seconds)
    row = compared("20 unchanged hosts, 4 against 1", taken[4], taken[1], unit=" s", at_most=AT_MOST)
    notes = [
        f"on {drive.kind}; {files:,} files each, over loopback SSH",
        "from the wish to the last outcome in the log",
    ]
    return Found("scale: four snapshotters against one", [row], notes)


async def _all_due_are_done(system: Installation, done: int) -> int:
    """Let what is due by itself end: the first snapshots, and those of an hour that has just begun."""
    wanted = max(done, len(HOSTS))
    events = await system.wait_for(
        lambda events: len(of_type(events, SnapshotCompleted)) >= wanted, what="The first snapshot of all hosts"
    )
    return len(of_type(events, SnapshotCompleted))


async def _all_again(system: Installation, done: int) -> tuple[float, int]:
    started = time.perf_counter()
    await system.publish("backup.trigger")
    wanted = done + len(HOSTS)
    await system.wait_for(lambda events: len(of_type(events, SnapshotCompleted)) >= wanted, what="All hosts")
    return time.perf_counter() - started, wanted
