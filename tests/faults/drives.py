"""The drive that every protocol is tried on: small, and with nothing in it but true restore points.

Three snapshots that share files by hard links, archives of the first two, golden copies of the first. What a
protocol removes or makes is its victim; everything else on the drive is a bystander, and must stay as it is.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import xxhash
import zstandard

from services.archiver.archive import Work, make_archive
from services.archiver.golden import make_golden
from services.archiver.pack import Compression, Packing
from shared.adapters.clock import SystemClock
from shared.adapters.filesystem import FileLock, open_directory, shared_lock, supports_user_xattrs, sync_filesystem
from shared.adapters.markers import CHANGES_FILE, FILES_FILE, Marker
from shared.adapters.store import HostFolder, Store
from shared.domain.events import Job, Kind, SnapshotCompleted
from shared.domain.file_list import Entry
from shared.domain.ids import event_id
from shared.domain.names import archive_name, snapshot_name
from tests.support.builders import HOST, MAIN, SLOT, STORE_UUID, a_run, build

OLDEST: Final = datetime(2026, 2, 1, 8, tzinfo=UTC)
SLOTS: Final = (OLDEST, SLOT - timedelta(hours=1), SLOT)
NEXT: Final = SLOT + timedelta(hours=1)
FIRST_RUN: Final = UUID("019cc238-2c00-7abc-8def-0123456a0001")
"""The run that is disturbed; whoever comes after it has a run of his own."""

VICTIMS: Final = {
    Kind.SNAPSHOT: str(snapshot_name(OLDEST)),
    Kind.ARCHIVE: str(archive_name(HOST, snapshot_name(OLDEST), "tar.gz")),
    Kind.GOLDEN: "2026-02",
}
NEW_ARCHIVE: Final = str(archive_name(HOST, snapshot_name(SLOT), "tar.gz"))
NEW_GOLDEN: Final = "2026-03"
FILES, SYMLINKS = 7, 1


@dataclass(frozen=True, slots=True)
class Here:
    """Where a protocol runs, and as which run."""

    store: Store
    folder: HostFolder
    lock: FileLock
    run: UUID


@contextmanager
def opened(root: Path) -> Iterator[tuple[Store, HostFolder]]:
    """The store on a drive, and the folder of its host."""
    store = Store.open(root, MAIN)
    try:
        with store.folder(HOST) as folder:
            yield store, folder
    finally:
        store.close()


def build_drive(root: Path) -> None:
    """Make the drive that all protocols begin with."""
    root.mkdir()
    Store.create(root, MAIN, STORE_UUID).close()
    with opened(root) as (store, folder):
        base: Path | None = None
        for slot in SLOTS:
            run = a_run()
            put_tree(folder, run, slot, base)
            folder.complete(run, marker(run, slot))
            base = folder.path / "hourly" / snapshot_name(slot)
        with folder.locked(Job.ARCHIVE) as lock:
            asyncio.run(_put_copies(store, folder, lock))


async def _put_copies(store: Store, folder: HostFolder, lock: FileLock) -> None:
    for slot in SLOTS[:2]:
        await archive_of(Here(store, folder, lock, a_run()), slot)
    for name in ("2026-01", VICTIMS[Kind.GOLDEN]):
        await golden_of(Here(store, folder, lock, a_run()), OLDEST, name)


def put_tree(folder: HostFolder, run: UUID, slot: datetime, base: Path | None) -> None:
    """The tree of a run that has transferred everything: what did not change is shared with the base."""
    tree = folder.make_partial(run)
    alice = tree / "home/alice"
    (alice / "deep/er").mkdir(parents=True)
    (alice / "changed").write_text(f"as of {slot:%Y-%m-%d %H:%M}")
    (alice / "deep/er/each").write_bytes(slot.isoformat().encode() * 1_000)
    for name in ("same", "deep/noise"):
        if base is not None:
            os.link(base / "home/alice" / name, alice / name)
        else:
            (alice / name).write_bytes(os.urandom(100_000))
    (alice / os.fsdecode(b"odd\n\xff")).write_text("odd")
    os.link(alice / "changed", alice / "second name")
    (alice / "deep/one").write_text("1")
    (alice / "link").symlink_to("deep")
    (tree / FILES_FILE).write_bytes(_list_of(tree))
    (tree / CHANGES_FILE).write_text(f"changes of {slot.isoformat()}")
    for record in (FILES_FILE, CHANGES_FILE):
        os.utime(tree / record, ns=(0, 1_700_000_000_000_000_007))
    _give_attributes(alice)
    with open_directory(tree) as descriptor:
        sync_filesystem(descriptor)


def _list_of(tree: Path) -> bytes:
    """The list of its files as a snapshot carries it, with what is asked of it: names and checksums."""
    lines = []
    for path in (found for found in tree.rglob("*") if found.is_file() and not found.is_symlink()):
        name = os.fsencode(path.relative_to(tree)).replace(b"\n", b"\\#012")
        checksum = xxhash.xxh3_128(path.read_bytes()).hexdigest().encode()
        lines.append(Entry(name + b"//", b"f", checksum, b"%d" % path.stat().st_size, b"", b"").line())
    return zstandard.ZstdCompressor().compress(b"".join(sorted(lines)))


def _give_attributes(alice: Path) -> None:
    (alice / "changed").chmod(0o640)
    (alice / "deep").chmod(0o2750)
    with open_directory(alice / "deep/er") as folder:
        if supports_user_xattrs(folder):
            os.setxattr(folder, "user.of", b"a folder")
    for number, path in enumerate(sorted(alice.rglob("*"))):
        if path.name not in {"same", "noise"} and (path.is_symlink() or path.is_file()):
            os.utime(path, ns=(0, 1_700_000_000_123_456_789 + number), follow_symlinks=False)
    for path in (alice / "deep/er", alice / "deep", alice, alice.parent):
        os.utime(path, ns=(0, 1_600_000_000_987_654_321))


def marker(run: UUID, slot: datetime) -> Marker:
    """The record of such a tree."""
    completed = build(
        SnapshotCompleted,
        run=run,
        slot=slot,
        snapshot=snapshot_name(slot),
        files=FILES,
        directories=4,
        symlinks=SYMLINKS,
    )
    return Marker(event_id(run, 2), completed)


@contextmanager
def _work(here: Here, slot: datetime) -> Iterator[Work]:
    name = snapshot_name(slot)
    (snapshot,) = (found for found in here.folder.snapshots() if found.name == name)
    with (
        open_directory("hourly", at=here.folder.descriptor) as hourly,
        open_directory(name, at=hourly) as tree,
        shared_lock(tree),
    ):
        yield Work(here.run, slot, here.store, here.folder, here.lock, snapshot, tree)


async def archive_of(here: Here, slot: datetime) -> None:
    """Make the archive of a snapshot, as the archiver does."""
    with _work(here, slot) as work:
        await make_archive(work, Compression(), SystemClock(), _nobody_asks)


async def golden_of(here: Here, slot: datetime, name: str) -> None:
    """Make the golden copy of a snapshot, as the archiver does."""
    with _work(here, slot) as work:
        await make_golden(work, name, SystemClock())


async def _nobody_asks(_packing: Packing) -> None:
    """How far it is."""
