"""What the heavy pipeline has to do for a host now, from its folder and its state."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from services.archiver.space import archive_need, check_room
from shared.adapters.markers import StoredSnapshot
from shared.adapters.store import HostFolder, Store
from shared.config import HostSettings, Settings
from shared.domain.errors import RunFailed
from shared.domain.heavy import due_golden, why_no_archive
from shared.domain.host_state import HostState


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be made of a snapshot: an archive unless `why_not` says why not, and a golden copy when named."""

    snapshot: StoredSnapshot
    why_not: str
    golden: str | None

    @property
    def nothing(self) -> bool:
        """Whether there is nothing to do."""
        return self.why_not != "" and self.golden is None


def what_is_due(folder: HostFolder, state: HostState, slot: datetime, settings: Settings) -> Due | str:
    """What is to be made, or why there is nothing to make it of."""
    current = (folder.link_target("current") or "").removeprefix("hourly/")
    snapshot = next((found for found in folder.snapshots() if found.name == current), None)
    if snapshot is None:
        return "there is no complete snapshot yet"
    made = [(archive.snapshot, archive.slot) for archive in state.archives.values()]
    asked = state.requested_slot == slot
    why_not = why_no_archive(snapshot.name, slot, made, settings.tar_interval_hours, asked=asked)
    golden = due_golden(
        snapshot.marker.event.slot,
        state.golden,
        ZoneInfo(settings.tz),
        settings.snapshot_day_of_month,
        wanted=settings.keep_monthly_snapshots,
    )
    return Due(snapshot, why_not, golden)


def foreseen(due: Due | str, state: HostState, host: HostSettings, store: Store) -> tuple[bool, tuple[str, ...]]:
    """Whether a run would go well now, and what it would make, in sentences."""
    if isinstance(due, str):
        return False, (f"Nothing would be packed: {due}.",)
    words = [f"No archive: {due.why_not}." if due.why_not else f"Snapshot {due.snapshot.name} would be packed."]
    words += [f"The golden copy {due.golden} would be made."] if due.golden else []
    try:
        check_room(store, archive_need(state, due.snapshot.marker.event), host, state)
    except RunFailed as error:
        return False, (f"{error.message} {error.hint}", *words)
    return True, tuple(words)
