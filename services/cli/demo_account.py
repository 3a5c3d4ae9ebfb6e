"""What the demo tells at its end: files, bytes, the tree, the events."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

from services.cli.look import say_event
from services.cli.output import say, table
from shared.adapters.filesystem import open_directory
from shared.adapters.postgres import EventLog
from shared.config import Settings
from shared.domain.events import SnapshotCompleted
from shared.domain.names import HostName, host_stream
from shared.domain.wording import duration, size


async def tell(
    settings: Settings, log: EventLog, host: HostName, first: SnapshotCompleted, second: SnapshotCompleted
) -> None:
    """Print the account of two snapshots."""
    folder = settings.folder_of(host)
    shared, own = await asyncio.to_thread(_compare, folder / "hourly", first.snapshot, second.snapshot)
    rows = [
        [
            event.snapshot,
            f"{event.files:,}",
            size(event.size_bytes),
            f"{event.transferred_files:,}",
            size(event.transferred_bytes),
            size(event.shared_bytes),
            duration(event.duration_seconds),
        ]
        for event in (first, second)
    ]
    say("")
    table(["SNAPSHOT (UTC)", ">FILES", ">SIZE", ">MOVED FILES", ">MOVED", ">SHARED", ">TOOK"], rows, empty="")
    say(f"\n{shared:,} files of the second are the same files on disk as in the first; {own:,} are its own.")
    say(f"\n{folder}/")
    for line in await asyncio.to_thread(_tree, folder):
        say(f"  {line}")
    say("\nThe event log:")
    for recorded in await log.read_stream(host_stream(host)):
        say_event(recorded, as_json=False)


def _compare(hourly: Path, first: str, second: str) -> tuple[int, int]:
    """How many regular files of the second snapshot share their inode with the first, and how many do not."""
    held = set(_inodes(hourly / first))
    second_inodes = list(_inodes(hourly / second))
    shared = sum(inode in held for inode in second_inodes)
    return shared, len(second_inodes) - shared


def _inodes(tree: Path) -> list[int]:
    found = []
    for _, _, names, descriptor in os.fwalk(os.fsencode(tree / "home")):
        statuses = [os.stat(name, dir_fd=descriptor, follow_symlinks=False) for name in names]
        found += [status.st_ino for status in statuses if stat.S_ISREG(status.st_mode)]
    return found


def _tree(folder: Path) -> list[str]:
    lines = [
        f"{link} -> {(folder / link).readlink()}" for link in ("current", "latest") if (folder / link).is_symlink()
    ]
    with open_directory(folder / "hourly") as hourly:
        for name in sorted(os.listdir(hourly)):
            lines.append(f"hourly/{name}/")
            with open_directory(name, at=hourly) as tree:
                lines += [f"    {entry}" for entry in sorted(os.listdir(tree))]
    return lines
