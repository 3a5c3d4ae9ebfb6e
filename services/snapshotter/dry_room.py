"""Whether the next snapshot of a host would fit, counted without writing anything."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field

from services.snapshotter import admission
from services.snapshotter.connection import Connection
from services.snapshotter.estimate import Estimate, estimate
from services.snapshotter.rsync import Ability
from services.snapshotter.run import RECENT, choose_base
from services.snapshotter.space import likely_need
from shared.adapters.markers import StoredSnapshot
from shared.adapters.process import ProcessTimedOut
from shared.adapters.store import HostFolder, Store
from shared.config import HostSettings, Settings
from shared.domain.events import Quality
from shared.domain.room import Need, Room, size


@dataclass(slots=True)
class Findings:
    """What was found, in sentences: what keeps a snapshot from working, what is not known, what is all right."""

    bad: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)
    good: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """All of them, worst first."""
        return [*self.bad, *self.unsure, *self.good]


async def try_room(
    connection: Connection,
    settings: Settings,
    ability: Ability,
    found: Findings,
    *,
    used_bytes: int | None,
    seconds: float,
) -> None:
    """Compare what the next snapshot would move with what the drive and the quota leave. Raises as its parts do."""
    host = connection.host
    with ExitStack() as stack:
        store = Store.open(settings.root_of(host.store), host.store)
        stack.callback(store.close)
        # Looked at as it is: a host that has no folder yet gets none.
        folder = stack.enter_context(store.existing_folder(host.name)) if host.name in store.hosts() else None
        need = await _needed(connection, ability, folder, found, seconds)
        _compare(host, store.room(), need, used_bytes, found)


async def _needed(
    connection: Connection,
    ability: Ability,
    folder: HostFolder | None,
    found: Findings,
    seconds: float,
) -> Need:
    kept = folder.snapshots() if folder else []
    base = choose_base(kept)
    try:
        counted = await estimate(connection, ability, folder, base, seconds=seconds)
    except ProcessTimedOut:
        found.unsure.append(
            f"The estimate was not finished in {seconds:,.0f} s: the host has very many files or is slow. What is "
            "said of the room goes by the runs before."
        )
        recent = [snapshot.marker.event for snapshot in kept if snapshot.quality is Quality.COMPLETE][-RECENT:]
        return likely_need(recent, shares=base is not None)
    _tell(counted, base, found)
    return counted.need


def _tell(counted: Estimate, base: StoredSnapshot | None, found: Findings) -> None:
    totals = counted.totals
    if counted.verdict.degraded:
        found.bad.append(
            f"Not all can be read: the snapshot would be degraded, never archived. {' '.join(counted.verdict.warnings)}"
        )
    if totals.files == 0:
        found.bad.append("The source is empty: is the home directory mounted on the host?")
    sharing = f"shares the rest with {base.name}" if base else "is the first one, so it shares nothing"
    found.good.append(
        f"The next snapshot would move {totals.transferred_files:,} of {totals.files:,} files, "
        f"{size(totals.transferred_bytes)} of {size(totals.size_bytes)}, and make {totals.directories:,} folders; it "
        f"{sharing}."
    )


def _compare(host: HostSettings, room: Room, need: Need, used_bytes: int | None, found: Findings) -> None:
    """The same judgement as before a real run."""
    if refused := admission.judge(room, need, used_bytes, host.quota_bytes):
        found.bad.append(f"{refused.message} {refused.hint}".strip())
    else:
        inodes = "" if room.free_inodes is None else f" and {room.free_inodes:,} inodes"
        found.good.append(
            f"That takes about {size(need.size_bytes)} and {need.inodes:,} inodes; {size(room.free_bytes)}{inodes} are "
            "free on the drive."
        )
    if host.quota_bytes is None:
        return
    if used_bytes is None:
        found.unsure.append("How much of its quota the host uses is not known now: the event log was not asked.")
    else:
        found.good.append(f"The host uses {size(used_bytes)} of its quota of {size(host.quota_bytes)}.")
