"""A snapshot of a large home against plain rsync: the first one, one of an unchanged home, one of a changed home.

Ours is the whole run as the handler does it: lock, connection, transfer, lists, sync, marker, rename, links. Plain
rsync is what people would type: `rsync -aH -e ssh [--link-dest]`, by itself, which syncs nothing; what a `sync -f`
behind it takes is measured as well. Both pull the same home through the same throw-away sshd.
"""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from services.embedded.sshd import ThrowawaySshd
from services.snapshotter.connection import connected
from services.snapshotter.output import Progress
from services.snapshotter.rsync import Ability
from services.snapshotter.run import RECENT, Run, choose_base, take_snapshot
from services.snapshotter.transfer import find_ability
from shared.adapters import filesystem, process
from shared.adapters.clock import SystemClock
from shared.adapters.store import Store
from shared.config import HostSettings, Settings
from shared.domain.events import Job, Quality, SnapshotCompleted
from shared.domain.ids import run_id
from shared.domain.names import HostName, StoreName
from tests.bench.drive import Drive, fresh_drive
from tests.bench.homes import build_home, change_home
from tests.bench.options import BenchmarkBroken, Options
from tests.bench.samples import Samples
from tests.bench.table import Found, Row, compared

HOST: Final = HostName("home")
FIRST_SLOT: Final = datetime(2026, 1, 1, tzinfo=UTC)
CHANGED_SHARE: Final = 0.01
RAW_TIMEOUT_SECONDS: Final = 600.0
TARGETS: Final = {"first": 1.05, "unchanged": 0.5, "1 % changed": 0.5}


@dataclass(slots=True)
class Source:
    """The home that is pulled, the way to it, and what this machine's rsync can do."""

    top: Path
    files: list[Path]
    regular_files: int
    sshd: ThrowawaySshd
    known_hosts: Path


@dataclass(slots=True)
class Times:
    """Seconds of each round: ours, plain rsync, and the `sync -f` behind plain rsync."""

    ours: Samples = field(default_factory=Samples)
    raw: Samples = field(default_factory=Samples)
    sync: Samples = field(default_factory=Samples)


async def measure(options: Options) -> Found:
    """Run the comparison."""
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(fresh_drive(options.folder, "host"))
        top = host.path / "home"
        wanted = options.size(100_000, quick=2_000)
        options.say(f"Making a home of {wanted:,} files ...")
        files = await asyncio.to_thread(build_home, top, wanted)
        await host.settle()
        sshd = await stack.enter_async_context(ThrowawaySshd(options.folder / "sshd"))
        known_hosts = options.folder / "known_hosts"
        known_hosts.write_text(sshd.known_hosts_line(HOST), encoding="ascii")
        source = Source(top, files, wanted, sshd, known_hosts)
        times = {name: Times() for name in TARGETS}
        kind = ""
        for number in range(options.rounds(5)):
            options.say(f"Round {number + 1} ...")
            async with fresh_drive(options.folder, f"drive-{number}") as drive:
                kind = drive.kind
                await _round(number, source, drive, times)
        if not options.quick:
            # The first time anything runs, it is read from the drive and paid for by whoever is first.
            _forget_first_round(times)
    notes = [
        f"on {kind}; {wanted:,} files, {1 / 12:.1%} as many directories, 0.5 % hard links, 1 % symbolic links",
        "the target is against plain rsync alone, which syncs nothing; ours always includes its syncfs",
        "the first round warms up and is not counted",
    ]
    return Found("snapshots: a whole run of ours against plain rsync -aH --link-dest over ssh", _rows(times), notes)


def _forget_first_round(times: dict[str, Times]) -> None:
    for measured in times.values():
        for samples in (measured.ours, measured.raw, measured.sync):
            del samples.values[0]


def _rows(times: dict[str, Times]) -> list[Row]:
    rows = []
    for name, measured in times.items():
        rows.append(compared(f"{name}", measured.ours, measured.raw, unit=" s", at_most=TARGETS[name]))
        rows.append(compared(f"{name}, rsync + sync -f", measured.ours, measured.raw.plus(measured.sync), unit=" s"))
    return rows


async def _round(number: int, source: Source, drive: Drive, times: dict[str, Times]) -> None:
    raw = Raw(source, drive.path / "raw")
    async with Ours.on(source, drive.path / "store") as ours:
        for name, measured in times.items():
            changed = 0
            if name == "1 % changed":
                changed = await asyncio.to_thread(change_home, source.files, CHANGED_SHARE, number)

            async def run_raw(measured: Times = measured) -> None:
                measured.raw.add(await _timed(raw.pull))
                measured.sync.add(await _timed(drive.settle))

            async def run_ours(name: str = name, measured: Times = measured, changed: int = changed) -> None:
                measured.ours.add(await _timed(ours.pull))
                _check(name, source, changed, ours.completed)

            turns: list[Callable[[], Awaitable[None]]] = [run_raw, run_ours] if number % 2 else [run_ours, run_raw]
            for turn in turns:
                await drive.settle()
                await turn()


async def _timed(action: Callable[[], Awaitable[None]]) -> float:
    started = time.perf_counter()
    await action()
    return time.perf_counter() - started


def _check(name: str, source: Source, changed: int, completed: list[SnapshotCompleted]) -> None:
    newest = completed[-1]
    expected = source.regular_files if name == "first" else changed
    moved = newest.transferred_files
    # Hard links are moved once, so a first run moves fewer than there are names.
    wrong = moved > expected or (moved < 0.98 * expected)
    if newest.files != source.regular_files or newest.quality is not Quality.COMPLETE or newest.warnings or wrong:
        raise BenchmarkBroken(f"The {name} snapshot is not what it should be: {newest}")


class Raw:
    """Plain rsync into one fresh directory after another, each with the one before as its base."""

    def __init__(self, source: Source, folder: Path) -> None:
        self._source = source
        self._folder = folder
        self._count = 0
        folder.mkdir()

    async def pull(self) -> None:
        """Pull once. Raises BenchmarkBroken."""
        sshd = self._source.sshd
        shell = f"ssh -F /dev/null -p {sshd.port} -i {sshd.client_key} -o IdentitiesOnly=yes -o BatchMode=yes"
        shell += f" -o HostKeyAlias={HOST} -o UserKnownHostsFile={self._source.known_hosts}"
        base = [f"--link-dest={self._folder / str(self._count)}"] if self._count else []
        self._count += 1
        ends = [f"{sshd.user}@127.0.0.1:{self._source.top}/", f"{self._folder / str(self._count)}/"]
        done = await process.run(["rsync", "-aH", "-e", shell, *base, *ends], timeout_seconds=RAW_TIMEOUT_SECONDS)
        if done.returncode != 0 or done.stderr:
            raise BenchmarkBroken(f"Plain rsync failed: {done.said}")


class Ours:
    """The product's own run, into a store of its own."""

    def __init__(self, settings: Settings, store: Store, ability: Ability) -> None:
        self._settings = settings
        self._store = store
        self._ability = ability
        self._clock = SystemClock()
        self.completed: list[SnapshotCompleted] = []

    @classmethod
    def on(cls, source: Source, root: Path) -> _Opened:
        """A store on a drive, for as long as the block lasts."""
        return _Opened(source, root)

    async def pull(self) -> None:
        """One run, as the handler does it, without the events."""
        host = self._settings.hosts[0]
        slot = FIRST_SLOT + len(self.completed) * timedelta(hours=1)
        run = run_id(self._clock.unix_ms(), secrets.randbits(58))
        with self._store.folder(HOST) as folder, folder.locked(Job.SNAPSHOT) as lock:
            async with connected(host, self._settings) as connection:
                snapshots = folder.snapshots()
                recent = [snapshot for snapshot in snapshots if snapshot.quality is Quality.COMPLETE][-RECENT:]
                wish = Run(run, slot, self._store, folder, lock, choose_base(snapshots), recent)
                completed, _ = await take_snapshot(wish, connection, self._ability, self._clock, _hear)
        self.completed.append(completed)

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()


async def _hear(_files: int, _progress: Progress) -> None:
    """The handler records an event here, at most every five seconds."""


class _Opened:
    def __init__(self, source: Source, root: Path) -> None:
        self._source = source
        self._root = root
        self._ours: Ours | None = None

    async def __aenter__(self) -> Ours:
        sshd = self._source.sshd
        host = HostSettings(
            name=HOST,
            address="127.0.0.1",
            port=sshd.port,
            user=sshd.user,
            key=sshd.client_key,
            known_hosts=self._source.known_hosts,
            paths=(f"{self._source.top.parent}/./{self._source.top.name}",),
        )
        self._root.mkdir()
        store = Store.create(self._root, StoreName("main"), uuid.uuid4())
        ability = await find_ability(attributes=filesystem.supports_user_xattrs(store.descriptor))
        settings = Settings(backup_root=self._root, data_dir=self._root.parent, hosts=(host,))
        self._ours = Ours(settings, store, ability)
        return self._ours

    async def __aexit__(self, *_: object) -> None:
        if self._ours is not None:
            self._ours.close()
