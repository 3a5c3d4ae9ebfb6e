"""The steps of the protocols, by name: what tests strike at, and whoever traces a run can look at.

A step that is reached is an audit event of Python (PEP 578). Nobody listens in an installation, so it costs nothing and
nothing stops, fails or waits here: only a listener could make it, and only tests bring one.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Final

EVENT: Final = "backup_manager.reached"


class Milestone(StrEnum):
    """A step that was just made."""

    SNAPSHOT_CLAIMED = "snapshot: the log has the claim"
    SNAPSHOT_PARTIAL_MADE = "snapshot: the partial tree is there"
    SNAPSHOT_BASE_HELD = "snapshot: the base cannot be removed"
    SNAPSHOT_TRANSFERRED = "snapshot: everything was transferred"
    SNAPSHOT_LISTED = "snapshot: the lists are written"
    SNAPSHOT_SYNCED = "snapshot: the drive has it all"
    SNAPSHOT_COMPLETED = "snapshot: it is complete and linked"
    SNAPSHOT_TIDIED = "snapshot: no partial tree is left"
    SNAPSHOT_TOLD = "snapshot: its outcome was told"
    TREE_MARKED = "tree: the marker is written"
    TREE_NAMED = "tree: it has its name"
    LINK_SET = "links: one of them is set"

    ARCHIVE_CLAIMED = "archive: the log has the claim"
    ARCHIVE_BEGUN = "archive: its file is there"
    ARCHIVE_PACKED = "archive: everything is packed"
    ARCHIVE_READ_BACK = "archive: it was read back"
    ARCHIVE_CHECKSUM_WRITTEN = "archive: its checksum is written"
    ARCHIVE_RECORD_WRITTEN = "archive: its record is written"
    ARCHIVE_NAMED = "archive: it has its name"
    ARCHIVE_TOLD = "archive: its outcome was told"

    GOLDEN_BEGUN = "golden copy: its tree is there"
    GOLDEN_LINKED = "golden copy: everything is in it"
    GOLDEN_SYNCED = "golden copy: the drive has it all"
    GOLDEN_COMPLETED = "golden copy: it is complete"
    GOLDEN_TOLD = "golden copy: its outcome was told"

    RETENTION_CLAIMED = "retention: the log has the claim"
    REMOVAL_DECIDED = "removal: the plan names the point"
    REMOVAL_ALONE = "removal: nobody reads the point"
    REMOVAL_ORDERED = "removal: the log has the order"
    REMOVAL_BIN_MADE = "removal: its place in the trash is there"
    REMOVAL_MOVED = "removal: the point lies in the trash"
    REMOVAL_FOLLOWED = "removal: what belongs to it followed"
    REMOVAL_TOLD = "removal: it was told"
    PURGE_DECIDED = "purge: the point lay long enough"
    PURGE_ALONE = "purge: nobody reads the point"
    PURGE_ORDERED = "purge: the log has the order"
    PURGE_UNMARKED = "purge: the marker is gone"
    PURGE_EMPTIED = "purge: the point is gone"
    PURGE_TIDIED = "purge: its place in the trash is gone"
    PURGE_TOLD = "purge: it was told"
    RETENTION_TOLD = "retention: its outcome was told"

    UNDELETE_ALONE = "undelete: nobody reads the point"
    UNDELETE_FOLLOWED = "undelete: what belongs to it went first"
    UNDELETE_MOVED = "undelete: the point is back"

    RESTORE_CLAIMED = "restore: the log has the claim"
    RESTORE_SOURCE_HELD = "restore: the restore point cannot be removed"
    RESTORE_COUNTED = "restore: it was counted"
    RESTORE_FOLDER_MADE = "restore: the partial folder is there"
    RESTORE_COPIED = "restore: everything was copied"
    RESTORE_SYNCED = "restore: the drive has it all"
    RESTORE_COMPARED = "restore: it was compared"
    RESTORE_NAMED = "restore: it has its name"
    RESTORE_CONNECTED = "restore: the host answers"
    RESTORE_PUSHED = "restore: the host has everything"
    RESTORE_HOST_COMPARED = "restore: the host was compared"
    RESTORE_NOTED = "restore: the host has the note"
    RESTORE_TOLD = "restore: its outcome was told"

    SPOOL_WRITTEN = "spool: the drive has the facts"
    SPOOL_SENT = "spool: the log has the facts"
    SPOOL_FORGOTTEN = "spool: they wait no more"


def reached(milestone: Milestone) -> None:
    """Say that a step was made."""
    sys.audit(EVENT, str(milestone))
