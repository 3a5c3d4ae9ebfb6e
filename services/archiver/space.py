"""What an archive or a golden copy will probably take of the drive, and whether it is there."""

from __future__ import annotations

from typing import Final

from shared.adapters.store import Store
from shared.config import HostSettings
from shared.domain.errors import RunFailed
from shared.domain.events import SnapshotCompleted
from shared.domain.host_state import HostState
from shared.domain.room import Need, why_no_room, why_over_quota

GROWTH: Final = 1.25
"""An archive is expected to be at most so much larger, for its source, than the one before."""
BLOCK_BYTES: Final = 4096


def archive_need(state: HostState, snapshot: SnapshotCompleted) -> Need:
    """Like the archive before, grown with the snapshot; without one, as much as the snapshot itself."""
    newest = max(state.archives.values(), key=lambda archive: archive.slot, default=None)
    before = state.snapshots.get(newest.snapshot) if newest else None
    if newest is None:
        return Need(snapshot.size_bytes, 3, "the first archive, at worst as large as its snapshot")
    growth = snapshot.size_bytes / before.size_bytes if before and before.size_bytes else 1.0
    return Need(
        round(newest.size_bytes * growth * GROWTH), 3, f"{newest.name} took that much, and a quarter in reserve"
    )


def golden_need(snapshot: SnapshotCompleted) -> Need:
    """A directory of its own for each directory; the files are shared."""
    directories = snapshot.directories + 2
    return Need(directories * BLOCK_BYTES, directories, "a copy has directories of its own")


def check_room(store: Store, need: Need, host: HostSettings | None = None, state: HostState | None = None) -> None:
    """Raises RunFailed when what is to be made does not fit on the drive, or into the quota of the host if given."""
    if reason := why_no_room(store.room(), need):
        raise RunFailed(reason, "Free some room, or thin out sooner: see the retention settings.", code="no_room")
    if host is None or state is None:
        return
    if reason := why_over_quota(state.used_bytes(), host.quota_bytes, need):
        raise RunFailed(reason, "Raise quota_gib of this host, or keep less of it.", code="quota")
