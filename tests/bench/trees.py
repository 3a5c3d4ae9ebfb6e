"""Large trees linked and removed by several processes, against `cp -al` and `rm -rf`, and what others feel of it.

Everything is measured on one fresh drive, ours and the yardstick in turns. What is removed is a
snapshot: its files live on under other names. The removal asks whether others use the drive, as the product does.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from shared.adapters import process, trees
from shared.adapters.drive_use import OthersSync
from shared.adapters.filesystem import open_directory
from tests.bench.drive import Drive, fresh_drive
from tests.bench.homes import build_home
from tests.bench.options import BenchmarkBroken, Options
from tests.bench.samples import Samples
from tests.bench.table import Found, Row, compared

TIMEOUT_SECONDS: Final = 600.0
RECORD_BYTES: Final = 4096
LINK_AT_MOST: Final = 0.65
REMOVE_AT_MOST: Final = 0.8
FSYNC_AT_MOST: Final = 1.0


@dataclass(slots=True)
class Pair:
    """Ours and the yardstick, round by round."""

    ours: Samples = field(default_factory=Samples)
    yardstick: Samples = field(default_factory=Samples)


@dataclass(slots=True)
class Times:
    """Seconds of linking and removing, of removing beside somebody who syncs, and milliseconds that he waited."""

    link: Pair = field(default_factory=Pair)
    remove: Pair = field(default_factory=Pair)
    beside: Pair = field(default_factory=Pair)
    fsync: Pair = field(default_factory=Pair)


async def measure(options: Options) -> Found:
    """Run the comparison."""
    times, kind = Times(), ""
    wanted = options.size(300_000, quick=3_000)
    async with fresh_drive(options.folder, "drive") as drive:
        kind = drive.kind
        options.say(f"Making a home of {wanted:,} files ...")
        await asyncio.to_thread(build_home, drive.path / "home", wanted)
        for number in range(options.rounds(5)):
            options.say(f"Round {number + 1} ...")
            await _round(number, drive, times)
    rows: list[Row] = [
        compared("golden copy, cp -al", times.link.ours, times.link.yardstick, unit=" s", at_most=LINK_AT_MOST),
        compared("removal, rm -rf", times.remove.ours, times.remove.yardstick, unit=" s", at_most=REMOVE_AT_MOST),
        compared("fsync p99 of another", times.fsync.ours, times.fsync.yardstick, unit=" ms", at_most=FSYNC_AT_MOST),
        compared("removal beside it", times.beside.ours, times.beside.yardstick, unit=" s"),
    ]
    notes = [
        f"on one drive ({kind.removesuffix(', for each round')}); {wanted:,} files in 1/12 as many directories",
        f"two processes on {os.cpu_count()} processors: whatever else runs here takes from ours first",
    ]
    return Found("trees: linked and removed by two processes", rows, notes)


async def _round(number: int, drive: Drive, times: Times) -> None:
    turns = [(_link_ours, _remove_ours, "ours"), (_link_plainly, _remove_plainly, "yardstick")]
    if number % 2:
        turns.reverse()
    for link, remove, who in turns:
        await drive.settle()
        _add(times.link, who, await _timed(link, drive))
        await drive.settle()
        _add(times.remove, who, await _timed(remove, drive))
    for link, remove, who in turns:
        await link(drive)
        await drive.settle()
        async with _somebody_who_syncs(drive) as waits_ms:
            _add(times.beside, who, await _timed(remove, drive))
        _add(times.fsync, who, sorted(waits_ms)[len(waits_ms) * 99 // 100])


def _add(pair: Pair, who: str, value: float) -> None:
    (pair.ours if who == "ours" else pair.yardstick).add(value)


async def _timed(action: Callable[[Drive], Awaitable[None]], drive: Drive) -> float:
    started = time.perf_counter()
    await action(drive)
    return time.perf_counter() - started


async def _link_ours(drive: Drive) -> None:
    (drive.path / "copy").mkdir()
    with open_directory(drive.path / "home") as source, open_directory(drive.path / "copy") as target:
        await trees.link_tree(source, target)


async def _remove_ours(drive: Drive) -> None:
    with open_directory(drive.path) as top:
        await trees.remove_tree("copy", at=top, busy=OthersSync(top))


async def _link_plainly(drive: Drive) -> None:
    await _plainly("cp", "-al", str(drive.path / "home"), str(drive.path / "copy"))


async def _remove_plainly(drive: Drive) -> None:
    await _plainly("rm", "-rf", str(drive.path / "copy"))


async def _plainly(*argv: str) -> None:
    done = await process.run(argv, timeout_seconds=TIMEOUT_SECONDS)
    if done.returncode != 0:
        raise BenchmarkBroken(f"{argv[0]} failed: {done.said}")


SYNCING: Final = """
import os, sys, time
file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
record = bytes(int(sys.argv[2]))
while True:
    started = time.perf_counter()
    os.write(file, record)
    os.fsync(file)
    print(time.perf_counter() - started, flush=True)
"""


@asynccontextmanager
async def _somebody_who_syncs(drive: Drive) -> AsyncIterator[list[float]]:
    """Another process that writes and syncs without a pause, and what each fsync took it (ms)."""
    argv = [sys.executable, "-I", "-S", "-c", SYNCING, str(drive.path / "record"), str(RECORD_BYTES)]
    said = bytearray()
    waits_ms: list[float] = []

    async def read(running: process.Running) -> None:
        async for chunk in running.chunks():
            said.extend(chunk)

    async with await process.start(process.dying_with_parent(argv)) as running:
        reading = asyncio.create_task(read(running))
        await asyncio.sleep(0.1)
        said.clear()  # what came before was undisturbed
        yield waits_ms
        await running.end(grace_seconds=1)
        await reading
    waits_ms += [1000 * float(line) for line in said.split(b"\n")[1:-1]]
    if len(waits_ms) < 10:
        raise BenchmarkBroken("Too few fsyncs were seen to say anything.")
