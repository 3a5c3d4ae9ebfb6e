"""A drive with restore points that were never transferred: small trees with true records, and the events for them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import msgspec

from shared.adapters.markers import Marker
from shared.adapters.restore_points import (
    ArchiveRecord,
    GoldenRecord,
    complete_archive,
    complete_golden,
)
from shared.adapters.store import HostFolder, Store
from shared.domain.events import (
    ArchiveCompleted,
    Event,
    GoldenCompleted,
    NewEvent,
    Quality,
    SnapshotCompleted,
    SnapshotStarted,
)
from shared.domain.ids import event_id
from shared.domain.names import HostName, StoreName, archive_name, snapshot_name
from tests.support.builders import HOST, MAIN, STORE_UUID, a_run, build


@contextmanager
def stocked(root: Path, host: HostName = HOST, store_name: StoreName = MAIN) -> Iterator[HostFolder]:
    """The folder of a host on a new store."""
    root.mkdir()
    store = Store.create(root, store_name, STORE_UUID if store_name == MAIN else uuid4())
    try:
        with store.folder(host) as folder:
            yield folder
    finally:
        store.close()


def put_snapshot(
    folder: HostFolder, slot: datetime, *, quality: Quality = Quality.COMPLETE, text: str = "hello"
) -> list[NewEvent]:
    """A complete snapshot with two files; returns the events that tell of it."""
    run, name = a_run(), snapshot_name(slot)
    tree = folder.make_partial(run)
    home = tree / "home" / "alice"
    home.mkdir(parents=True)
    (home / "a.txt").write_text(text)
    (home / "b.txt").write_text(name)
    (home / "link").symlink_to("a.txt")
    for record in (".files.zst", ".changes.jsonl.zst"):
        (tree / record).write_bytes(b"")
    completed = build(
        SnapshotCompleted,
        run=run,
        slot=slot,
        snapshot=name,
        quality=quality,
        files=2,
        directories=2,
        symlinks=1,
        size_bytes=len(text) + len(name),
        transferred_bytes=len(name),
    )
    folder.complete(run, Marker(event_id(run, 2), completed))
    started = build(SnapshotStarted, run=run, slot=slot)
    return [NewEvent(event_id(run, 1), started), NewEvent(event_id(run, 2), completed)]


def put_archive(folder: HostFolder, slot: datetime) -> list[NewEvent]:
    """A complete archive (of no real content) of the snapshot of a slot; returns the event that tells of it."""
    run, snapshot = a_run(), snapshot_name(slot)
    name, content = archive_name(folder.host, snapshot, "tar.gz"), snapshot.encode()
    partial = f".partial-{run}.tar.gz"
    (folder.path / "archives" / partial).write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    completed = build(
        ArchiveCompleted,
        run=run,
        slot=slot,
        archive=name,
        snapshot=snapshot,
        size_bytes=len(content),
        sha256=digest,
    )
    complete_archive(folder, partial, ArchiveRecord(event_id(run, 2), completed))
    return [NewEvent(event_id(run, 2), completed)]


def put_golden(folder: HostFolder, slot: datetime, name: str) -> list[NewEvent]:
    """A complete golden copy with one file; returns the event that tells of it."""
    run = a_run()
    partial = f".partial-{run}"
    home = folder.path / "monthly" / partial / "home"
    home.mkdir(parents=True)
    (home / "a.txt").write_text("hello")
    completed = build(GoldenCompleted, run=run, slot=slot, golden=name, snapshot=snapshot_name(slot), files=1)
    complete_golden(folder, partial, GoldenRecord(event_id(run, 6), completed))
    return [NewEvent(event_id(run, 6), completed)]


def names_in(folder: HostFolder, place: str) -> set[str]:
    """What lies in a place of the host's folder."""
    return set(os.listdir(folder.path / place))


def same(first: Event, second: Event) -> bool:
    """Whether two events say the same."""
    return msgspec.json.encode(first) == msgspec.json.encode(second)
