"""What makes a directory a snapshot: its marker, the record files beside it, and how they get there and are read."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import msgspec

from shared.adapters import filesystem
from shared.adapters.filesystem import open_directory
from shared.adapters.milestones import Milestone, reached
from shared.domain.errors import NameRefused
from shared.domain.events import Quality, SnapshotCompleted
from shared.domain.names import SnapshotName, parse_snapshot_name

MARKER_FILE: Final = ".snapshot_complete"
CHANGES_FILE: Final = ".changes.jsonl.zst"
FILES_FILE: Final = ".files.zst"
MARKER_LIMIT_BYTES: Final = 1024 * 1024


class Marker(msgspec.Struct, frozen=True):
    """What makes a snapshot complete: the event that says so, under the id it has in the log."""

    id: UUID
    event: SnapshotCompleted


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """A complete snapshot on the drive."""

    name: SnapshotName
    marker: Marker

    @property
    def quality(self) -> Quality:
        """How far it can be trusted."""
        return self.marker.event.quality


def complete_tree(
    partial: str, name: str, marker: msgspec.Struct, *, source_at: int, target_at: int, desk: int | None = None
) -> None:
    """Give a synced tree its marker and then its name, durably. Raises OSError; then it is no restore point.

    With a `desk`, a directory where `partial` is no name, the marker is written there and moved.
    """
    with open_directory(partial, at=source_at) as tree:
        os.fchmod(tree, 0o755)
        if desk is None:
            filesystem.write_new_file(MARKER_FILE, msgspec.json.encode(marker), at=tree)
        else:
            filesystem.write_new_file(partial, msgspec.json.encode(marker), at=desk)
            filesystem.rename_new(partial, MARKER_FILE, source_at=desk, target_at=tree)
    reached(Milestone.TREE_MARKED)
    filesystem.rename_new(partial, name, source_at=source_at, target_at=target_at)
    reached(Milestone.TREE_NAMED)


def read_snapshot(name: str, *, at: int) -> StoredSnapshot | None:
    """The snapshot in a directory below `hourly`, or None when it is not a complete one."""
    try:
        parse_snapshot_name(name)
        with open_directory(name, at=at) as tree:
            content = filesystem.read_small_file(MARKER_FILE, at=tree, limit_bytes=MARKER_LIMIT_BYTES)
        marker = msgspec.json.decode(content, type=Marker)
    except (NameRefused, OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno not in {
            errno.ENOENT,
            errno.ENOTDIR,
            errno.ELOOP,
            errno.EINVAL,
            errno.EFBIG,
        }:
            raise  # the drive is failing: that is not the same as "there is no snapshot"
        return None
    return StoredSnapshot(SnapshotName(name), marker) if marker.event.snapshot == name else None
