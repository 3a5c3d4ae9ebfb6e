"""An archive of a home against `tar -czf`, which is what people would type.

Ours is what the archiver does: the whole line of processes, times to the nanosecond, attributes, SHA-256, counting,
and the file synced to its drive. `tar -czf` does nothing of that, and syncs nothing.
"""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.archiver import tar
from services.archiver.pack import Compression, Packed, Packing, pack, read_back
from shared.adapters import process
from shared.adapters.filesystem import open_directory
from tests.bench.contents import build_lived_in_home
from tests.bench.drive import Drive, fresh_drive
from tests.bench.options import BenchmarkBroken, Options
from tests.bench.samples import Samples
from tests.bench.table import Found, Row, compared

FILES: Final = 45_000
QUICK_FILES: Final = 1_500
ROUNDS: Final = 3
COLD_ROUNDS: Final = 2
FASTER: Final = 7.0
LARGER: Final = 1.04
TIMEOUT_SECONDS: Final = 1800.0
GZ, ZST = Compression("tar.gz"), Compression("tar.zst")
DROP_CACHES: Final = Path("/proc/sys/vm/drop_caches")


@dataclass(slots=True)
class Measured:
    """MB of files a second, seconds of processors, and MB of archive, round by round."""

    speed: Samples = field(default_factory=Samples)
    cold: Samples = field(default_factory=Samples)
    back: Samples = field(default_factory=Samples)
    size: Samples = field(default_factory=Samples)
    busy: Samples = field(default_factory=Samples)


async def measure(options: Options) -> Found:
    """Pack the same home in turns. Raises BenchmarkBroken."""
    async with fresh_drive(options.folder, "drive") as drive:
        tree = drive.path / "tree"
        files = options.size(FILES, quick=QUICK_FILES)
        options.say("making a home")
        source_bytes = await asyncio.to_thread(build_lived_in_home, tree / "home", files)
        bench = _Bench(drive, tree, source_bytes)
        options.say("in turns, from memory")
        for number in range(options.rounds(ROUNDS)):
            await bench.round(number, cold=False)
        if os.geteuid() == 0 and os.access(DROP_CACHES, os.W_OK):
            options.say("in turns, from a cold drive")
            for number in range(options.rounds(COLD_ROUNDS)):
                await bench.round(number, cold=True)
        notes = [
            f"{files:,} files, {source_bytes / 1e6:,.0f} MB: text, programs, and a third of them photos; {drive.kind}",
            "ours includes times to the nanosecond, attributes, SHA-256, counting and the sync; tar -czf none of it",
            await bench.cost_of_headers(),
        ]
    return Found("Archives, level 6, against tar -czf (gzip -6)", list(bench.rows()), notes)


class _Now:
    """The time, and how long all processes that have ended kept the processors busy."""

    def __init__(self) -> None:
        self.seconds = time.perf_counter()
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.busy_seconds = ended.ru_utime + ended.ru_stime


class _Bench:
    def __init__(self, drive: Drive, tree: Path, source_bytes: int) -> None:
        self._drive, self._tree, self._source_bytes = drive, tree, source_bytes
        self._raw, self._gz, self._zst = Measured(), Measured(), Measured()

    async def round(self, number: int, *, cold: bool) -> None:
        """Each of them once."""
        turns: list[Callable[[], Awaitable[None]]] = [
            lambda: self._pack_raw(cold=cold),
            lambda: self._pack(GZ, self._gz, cold=cold),
            lambda: self._pack(ZST, self._zst, cold=cold),
        ]
        for turn in turns if number % 2 else reversed(turns):
            await self._drive.settle()
            if cold:
                await asyncio.to_thread(DROP_CACHES.write_text, "3")
            await turn()

    def rows(self) -> list[Row]:
        """What was found."""
        raw, gz, zst = self._raw, self._gz, self._zst
        rows = [
            compared("tar.gz, speed", gz.speed, raw.speed, unit=" MB/s", digits=0, at_least=FASTER),
            compared("tar.gz, size", gz.size, raw.size, unit=" MB", digits=1, at_most=LARGER),
            compared("tar.zst, speed", zst.speed, raw.speed, unit=" MB/s", digits=0, at_least=FASTER),
            compared("tar.zst, size", zst.size, raw.size, unit=" MB", digits=1, at_most=1.0),
        ]
        # What a machine that is busy with other things leaves of the speed is luck; this is not.
        rows.append(compared("tar.gz, processors", gz.busy, raw.busy, unit=" s"))
        rows.append(compared("tar.zst, processors", zst.busy, raw.busy, unit=" s"))
        if raw.cold.values:
            rows.append(compared("tar.gz, cold", gz.cold, raw.cold, unit=" MB/s", digits=0))
            rows.append(compared("tar.zst, cold", zst.cold, raw.cold, unit=" MB/s", digits=0))
        rows.append(Row("tar.gz, read back", gz.back.shown(" MB/s", 0)))
        rows.append(Row("tar.zst, read back", zst.back.shown(" MB/s", 0)))
        return rows

    async def cost_of_headers(self) -> str:
        """How much the times to the nanosecond and the attributes take, in words."""
        plain, ours = ["tar", "-cf"], ["tar", *tar.OPTIONS]
        file, zipped = self._drive.path / "plain.tar", self._drive.path / "plain.tar.gz"
        sizes = []
        for argv in ([*plain, str(file)], [*(word for word in ours if word not in _FOR_A_LIST), f"--file={file}"]):
            await _must(*argv, "-C", str(self._tree), "home")
            await _must("gzip", "-6", "-k", str(file))
            sizes.append((file.stat().st_size, zipped.stat().st_size))
            file.unlink()
            zipped.unlink()
        stream, archive = (100 * (sizes[1][part] / sizes[0][part] - 1) for part in (0, 1))
        return f"our headers make the stream {stream:.1f} % longer, and what gzip -6 makes of it {archive:.2f} % larger"

    async def _pack_raw(self, *, cold: bool) -> None:
        file = self._drive.path / "raw.tar.gz"
        started = _Now()
        await _must("tar", "-czf", str(file), "-C", str(self._tree), "home")
        self._note(self._raw, started, file, cold=cold)

    async def _pack(self, compression: Compression, measured: Measured, *, cold: bool) -> None:
        file = self._drive.path / f"ours.{compression.format}"
        target = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            with open_directory(self._tree) as source:
                started = _Now()
                packed = await pack(source, target, compression=compression, report=_hear)
                self._note(measured, started, file, cold=cold)
            await self._read_back(target, packed, compression, measured)
        finally:
            os.close(target)

    async def _read_back(self, target: int, packed: Packed, compression: Compression, measured: Measured) -> None:
        started = time.perf_counter()
        await read_back(target, packed, compression)
        measured.back.add(self._source_bytes / 1e6 / (time.perf_counter() - started))

    def _note(self, measured: Measured, started: _Now, file: Path, *, cold: bool) -> None:
        ended = _Now()
        speed = self._source_bytes / 1e6 / (ended.seconds - started.seconds)
        (measured.cold if cold else measured.speed).add(speed)
        if not cold:
            measured.busy.add(ended.busy_seconds - started.busy_seconds)
            measured.size.add(file.stat().st_size / 1e6)
        file.unlink()


_FOR_A_LIST: Final = {"--file=-", "--null", "--verbatim-files-from", "--no-unquote"}


async def _hear(_packing: Packing) -> None:
    """The handler records an event here, at most every five seconds."""


async def _must(*argv: str) -> None:
    done = await process.run(argv, timeout_seconds=TIMEOUT_SECONDS)
    if done.returncode != 0:
        raise BenchmarkBroken(f"{argv[0]} failed: {done.said}")
