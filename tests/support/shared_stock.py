"""A host's folder as years leave it: points that share files, and every kind of file that is hard to copy."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Final

from shared.adapters.moving import MOVED
from shared.adapters.postgres import EventLog
from shared.adapters.store import HostFolder
from shared.adapters.trash import throw_away
from shared.config import Settings
from shared.domain.events import Kind, NewEvent, PointTrashed
from shared.domain.host_state import HostState
from shared.domain.ids import event_id
from shared.domain.names import StoreName, snapshot_name
from shared.domain.projection import replay
from tests.support.builders import HOST, SLOT, a_run, build, everything
from tests.support.stock import put_archive, put_golden, put_snapshot
from tests.support.trees import Tree, snapshot_of

HOURS: Final = 4
"""So many snapshots; one of them is in the trash."""


def shared_stock(folder: HostFolder) -> list[NewEvent]:
    """Snapshots that share files as `--link-dest` makes them, one of them in the trash, an archive, a golden copy."""
    events = []
    for hour in range(HOURS):
        slot = SLOT + timedelta(hours=hour)
        events += put_snapshot(folder, slot)
        home = folder.path / "hourly" / snapshot_name(slot) / "home"
        if hour == 0:
            _strange_files(home)
        else:
            _link_all(
                folder.path / "hourly" / snapshot_name(slot - timedelta(hours=1)) / "home" / "kept", home / "kept"
            )
        (home / "new").write_bytes(os.urandom(3000))
    newest = SLOT + timedelta(hours=HOURS - 1)
    events += [*put_archive(folder, newest), *put_golden(folder, newest, "2026-03")]
    monthly = folder.path / "monthly" / "2026-03" / "home"
    _link_all(folder.path / "hourly" / snapshot_name(newest) / "home" / "kept", monthly / "kept")
    run, gone = a_run(), snapshot_name(SLOT + timedelta(hours=1))
    throw_away(folder, run, Kind.SNAPSHOT, gone)
    trashed = build(PointTrashed, run=run, kind=Kind.SNAPSHOT, point=gone)
    folder.point_links()
    return [*events, NewEvent(event_id(run, 3), trashed)]


def _strange_files(home: Path) -> None:
    kept = home / "kept"
    kept.mkdir(mode=0o2711)
    (kept / "one").write_bytes(b"one")
    os.link(kept / "one", kept / "one again")
    os.link(kept / "one", home / "one outside")
    (kept / "empty").touch(mode=0o4755)
    (kept / "empty").chmod(0o4755)
    with (kept / "sparse").open("wb") as sparse:
        sparse.seek(8 * 1024 * 1024)
        sparse.write(b"end")
        sparse.truncate(16 * 1024 * 1024)
    os.mkfifo(kept / "fifo")
    (kept / "dangling").symlink_to("/nowhere\n")
    Path(os.fsdecode(bytes(kept) + b"/\xff\x1b[31m\n")).write_bytes(b"hostile name")
    deep = kept
    for _ in range(40):
        deep /= "d" * 50
        deep.mkdir()
    (deep / "bottom").write_bytes(b"deep")
    os.setxattr(kept / "one", "user.mood", b"fine")
    os.utime(kept / "one", ns=(1, 1_772_784_000_123_456_789))
    if os.geteuid() == 0:
        os.chown(kept / "empty", 1234, 2345)
        (kept / "empty").chmod(0o4755)
        os.chown(kept / "dangling", 1234, 2345, follow_symlinks=False)
        os.mknod(kept / "null", 0o20666, os.makedev(1, 3))


def _link_all(source: Path, target: Path) -> None:
    """Copy a folder with hard links, as rsync does for what has not changed."""
    target.mkdir()
    for entry in os.scandir(source):
        if entry.is_dir(follow_symlinks=False):
            _link_all(Path(entry.path), target / entry.name)
        else:
            os.link(entry.path, target / entry.name, follow_symlinks=False)


def kept(settings: Settings, store: StoreName) -> Tree:
    """All that a drive has of the host, but for what belongs to the drive."""
    tree = snapshot_of(settings.root_of(store) / HOST)
    tops = {name.encode() for name in MOVED}
    return Tree({path: entry for path, entry in tree.entries.items() if path.split(b"/")[0] in tops - {path}})


async def state_of(log: EventLog) -> HostState:
    """What is known of the host."""
    return replay([await everything(log)]).hosts[HOST]
