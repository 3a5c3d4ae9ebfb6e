"""A whole snapshot run as a protocol: rsync, in its walls, from the files that lie beside the drive."""

from __future__ import annotations

import asyncio
import os
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final

from services.snapshotter.connection import connected
from services.snapshotter.output import Progress
from services.snapshotter.run import RECENT, Run, choose_base, take_snapshot
from services.snapshotter.transfer import find_ability
from shared.adapters.clock import SystemClock
from shared.adapters.filesystem import supports_user_xattrs
from shared.adapters.markers import StoredSnapshot
from shared.adapters.store import HostFolder
from shared.config import HostSettings, Settings
from shared.domain.events import Job, Kind, Quality
from shared.domain.names import snapshot_name
from tests.faults.drives import NEXT, Here, opened
from tests.faults.protocols import Protocol
from tests.support.builders import HOST, SLOT, a_run

EARLIER: Final = SLOT + timedelta(minutes=30)
FILES, BYTES = 60, 40_000


async def take(here: Here, slot: datetime = NEXT, *, with_base: bool = True) -> None:
    """Take the snapshot of a slot, as the handler of the snapshotter does."""
    here.folder.point_links()
    if here.folder.has_snapshot(snapshot_name(slot)):
        return
    place = here.store.root.parent
    host = HostSettings(name=HOST, transport="local", paths=(f"{place}/source/./home",), excludes=())
    settings = Settings(backup_root=here.store.root, data_dir=place / "data", hosts=(host,))
    kept = here.folder.snapshots()
    recent = [snapshot for snapshot in kept if snapshot.quality is Quality.COMPLETE][-RECENT:]
    base: StoredSnapshot | None = choose_base(kept) if with_base else None
    ability = await find_ability(attributes=supports_user_xattrs(here.store.descriptor))
    async with connected(host, settings) as connection:
        run = Run(here.run, slot, here.store, here.folder, here.lock, base, recent)
        await take_snapshot(run, connection, ability, SystemClock(), _nobody_asks)


async def _nobody_asks(_files: int, _progress: Progress) -> None:
    """How far it is."""


def _write(home: Path, names: range, random: Random) -> None:
    for number in names:
        folder = home / f"folder {number % 5}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file {number}").write_bytes(random.randbytes(random.randrange(BYTES)))


def _prepare(folder: HostFolder) -> None:
    """Take a snapshot, then change what it was of: a third is new, a third has changed, a third is shared."""
    home, random = folder.path.parents[1] / "source/home", Random(6)  # noqa: S311  # bytes of a test
    _write(home, range(FILES), random)
    with opened(folder.path.parent) as (store, again), again.locked(Job.SNAPSHOT) as lock:
        asyncio.run(take(Here(store, again, lock, a_run()), EARLIER, with_base=False))
    _write(home, range(2 * FILES // 3, 4 * FILES // 3), random)
    (home / "large").write_bytes(random.randbytes(3_000_000))
    (home / "link").symlink_to("large")
    os.link(home / "large", home / "second name")


TAKE: Final = Protocol(Job.SNAPSHOT, (Kind.SNAPSHOT, snapshot_name(NEXT)), take, _prepare, comes=True, calls=16)
