"""Snapshots without the log and the bus: a drive, one host behind a real sshd, and what was kept of it."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import zstandard

from services.embedded.sshd import ThrowawaySshd
from services.snapshotter.connection import connected
from services.snapshotter.lists import Compared, read_list
from services.snapshotter.output import Progress
from services.snapshotter.rsync import Ability
from services.snapshotter.run import RECENT, Run, choose_base, take_snapshot
from services.snapshotter.transfer import find_ability
from shared.adapters import filesystem, process
from shared.adapters.clock import SystemClock
from shared.adapters.markers import CHANGES_FILE, FILES_FILE
from shared.adapters.store import Store
from shared.config import HostSettings, Settings
from shared.domain.events import Job, Quality, SnapshotCompleted
from shared.domain.file_list import Change, Entry, parse_line, real_name
from shared.domain.ids import run_id
from shared.domain.names import StoreName
from tests.support.builders import HOST, SLOT
from tests.support.trees import Tree, snapshot_of

REPOSITORY: Final = Path(__file__).parents[2]

AS_NOBODY: Final = (
    'exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all -- sh -c "$SSH_ORIGINAL_COMMAND"'
)
"""A forced command by which sshd, run by root, reads the host's files as an ordinary user."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A snapshot that was taken, and where it is."""

    completed: SnapshotCompleted
    compared: Compared
    path: Path

    @property
    def tree(self) -> Tree:
        """Its files: what came from the host below `home`."""
        return snapshot_of(self.path / "home")

    def entries(self) -> dict[bytes, Entry]:
        """Its list of files, by name."""
        entries = [parse_line(line) for line in read_list(self.path / FILES_FILE)]
        found = {real_name(entry.key): entry for entry in entries}
        assert len(found) == len(entries), "a name is listed twice"
        return found

    def changes(self) -> list[Change]:
        """Its list of changes."""
        with (self.path / CHANGES_FILE).open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as reader:
            return [msgspec.json.decode(line, type=Change) for line in reader.read().splitlines()]


@dataclass
class Backups:
    """One host and its drive. Every snapshot that is taken is of the next hour."""

    place: Path
    host: HostSettings
    settings: Settings
    store: Store
    ability: Ability
    sshd: ThrowawaySshd
    slot: datetime = SLOT
    reports: list[Progress] = field(default_factory=list)

    @property
    def source(self) -> Path:
        """The folder on the host whose `home` is backed up."""
        return self.place / "source"

    @property
    def folder(self) -> Path:
        """The host's folder on the drive."""
        return self.store.root / self.host.name

    def snapshots(self) -> list[str]:
        """The names of what is in `hourly`, complete or not."""
        return sorted(os.listdir(self.folder / "hourly")) if self.folder.exists() else []

    def link(self, name: str) -> str | None:
        """Where `current` or `latest` points."""
        path = self.folder / name
        return str(path.readlink()) if path.is_symlink() else None

    def leftovers(self) -> list[str]:
        """The partial trees in the host's folder."""
        return [name for name in os.listdir(self.folder) if name.startswith(".partial-")]

    async def take(self, *, ability: Ability | None = None, host: HostSettings | None = None) -> Taken:
        """Take a snapshot, as the handler of the snapshotter does. Raises what a run raises."""
        slot, self.slot = self.slot, self.slot + timedelta(hours=1)
        clock = SystemClock()

        async def report(_files: int, progress: Progress) -> None:
            self.reports.append(progress)

        with self.store.folder(self.host.name) as folder, folder.locked(Job.SNAPSHOT) as lock:
            async with connected(host or self.host, self.settings) as connection:
                kept = folder.snapshots()
                recent = [snapshot for snapshot in kept if snapshot.quality is Quality.COMPLETE][-RECENT:]
                run_number = run_id(clock.unix_ms(), secrets.randbits(58))
                run = Run(run_number, slot, self.store, folder, lock, choose_base(kept), recent)
                done, compared = await take_snapshot(run, connection, ability or self.ability, clock, report)
        return Taken(done, compared, self.folder / "hourly" / done.snapshot)

    def with_host(self, **fields: object) -> HostSettings:
        """The same host with other settings."""
        return msgspec.structs.replace(self.host, **fields)


@asynccontextmanager
async def backups(
    place: Path, *, drive: Path | None = None, forced_command: str | None = None, transport: str = "ssh"
) -> AsyncIterator[Backups]:
    """A host with an empty `home`, and an empty store; `drive` is where the store is when not below the place."""
    home = place / "source" / "home"
    home.mkdir(parents=True)
    root = drive or place / "drive"
    root.mkdir(exist_ok=True)
    sshd = ThrowawaySshd(place / "sshd", forced_command=forced_command)
    with ExitStack() as stack:
        store = Store.create(root, StoreName("main"), uuid.uuid4())
        stack.callback(store.close)
        ability = await find_ability(attributes=filesystem.supports_user_xattrs(store.descriptor))
        if transport == "ssh":
            await sshd.start()
        (place / "known_hosts").write_text(sshd.known_hosts_line(HOST) if transport == "ssh" else "")
        host = HostSettings(
            name=HOST,
            transport="ssh" if transport == "ssh" else "local",
            address="127.0.0.1",
            user=sshd.user,
            port=sshd.port or 22,
            key=sshd.client_key,
            known_hosts=place / "known_hosts",
            paths=(f"{place}/source/./home",),
            excludes=(),
        )
        settings = Settings(backup_root=root, data_dir=place / "data", hosts=(host,))
        try:
            yield Backups(place, host, settings, store, ability, sshd)
        finally:
            await sshd.stop()


SNAPSHOTTER: Final = """
import asyncio, sys
from tests.support.backups import take_one
asyncio.run(take_one(sys.argv[1]))
"""


async def snapshotter(backup: Backups) -> process.Running:
    """Take the next snapshot in another process, which may be killed."""
    settings = msgspec.structs.replace(backup.settings, hosts=(backup.host,))
    text = msgspec.json.encode((str(backup.place), settings, backup.slot), enc_hook=str).decode()
    return await process.start([sys.executable, "-c", SNAPSHOTTER, text], cwd=REPOSITORY)


async def take_one(text: str) -> None:
    """What runs in the other process."""
    kind = tuple[str, Settings, datetime]
    place, settings, slot = msgspec.json.decode(text, type=kind, dec_hook=lambda wanted, value: wanted(value))
    store = Store.open(settings.backup_root, settings.store)
    ability = await find_ability(attributes=True)
    folder = Path(place)
    await Backups(folder, settings.hosts[0], settings, store, ability, ThrowawaySshd(folder / "sshd"), slot).take()


async def must(*argv: str) -> bytes:
    """Run a command that has to succeed; returns its output."""
    done = await process.run(argv, timeout_seconds=60)
    assert done.returncode == 0, f"{argv}: {done.said}"
    return done.stdout


@asynccontextmanager
async def mounted(target: Path, *arguments: str) -> AsyncIterator[Path]:
    """Something mounted while the block runs, whatever happens in it: also when it was moved or mounted over."""
    await must("mkdir", "-p", str(target))
    before = Counter(mounts())
    await must("mount", *arguments, str(target))
    place = next(folder for folder in target.parents if folder.parent == Path(tempfile.gettempdir()))
    try:
        yield target
    finally:
        for path in (Counter(mounts()) - before).elements():
            if Path(path).is_relative_to(place):
                await must("umount", "-l", path)


def mounts() -> list[str]:
    """Where something is mounted on this machine."""
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]


def files_under(folder: Path) -> list[str]:
    """Every path below a folder, without following any link."""
    return sorted(
        os.path.relpath(os.path.join(top, name), folder)  # noqa: PTH118  # names may be any bytes
        for top, folders, names in os.walk(folder)
        for name in [*folders, *names]
    )
