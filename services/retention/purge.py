"""From the trash to nothing: what has lain there for longer than the grace period goes for good."""

from __future__ import annotations

import logging

from services.retention.recovery import purged_event
from services.retention.run import Thinning
from shared.adapters.drive_use import OthersSync
from shared.adapters.held_locks import JobsUnderWay
from shared.adapters.milestones import Milestone, reached
from shared.adapters.threads import in_thread, stop_if_cancelled, to_the_end
from shared.adapters.trash import Trashed, for_purge, remove_archive, tidy, unmark
from shared.adapters.trees import remove_tree
from shared.domain.errors import PointInUse
from shared.domain.events import Kind, NewEvent, PurgeOrdered
from shared.domain.host_state import TrashedPoint, point_key
from shared.domain.ids import derived_id

log = logging.getLogger(__name__)


async def purge(thinning: Thinning, due: TrashedPoint) -> bool:
    """Remove one point of the trash for good; False when somebody reads it just now.

    Raises LogConflict when the log has moved on since it was decided: decide again. Raises LogUnavailable: nothing is
    deleted without the log. Raises OSError when the drive fails. Cancelled or killed in the middle, the rest of it
    goes next time: it has lost its marker first.
    """
    trashed = Trashed(due.run, due.kind, due.point.name)
    started = thinning.clock.monotonic()
    try:
        with for_purge(thinning.folder, trashed) as bin_:
            reached(Milestone.PURGE_ALONE)
            await thinning.log.append(thinning.host, thinning.state, [_order(thinning, due)])
            reached(Milestone.PURGE_ORDERED)
            await to_the_end(unmark, thinning.folder, trashed)
            reached(Milestone.PURGE_UNMARKED)
            stop_if_cancelled()
            entries = await _remove(thinning, trashed, bin_)
            reached(Milestone.PURGE_EMPTIED)
    except PointInUse:
        log.info("%s in the trash is being read and stays for now.", trashed.key)
        return False
    await in_thread(tidy, thinning.folder, trashed.run)
    reached(Milestone.PURGE_TIDIED)
    seconds = round(thinning.clock.monotonic() - started, 3)
    await thinning.log.record(thinning.host, [purged_event(thinning.host, trashed, entries, seconds)])
    reached(Milestone.PURGE_TOLD)
    log.info("%s was purged: %s entries.", trashed.key, f"{entries:,}")
    return True


def _order(thinning: Thinning, due: TrashedPoint) -> NewEvent:
    """The order to purge a point. A second one has another id: what is recorded already is not compared again."""
    seconds = (thinning.clock.now() - due.trashed_at).total_seconds()
    fact = PurgeOrdered(run=due.run, kind=due.kind, point=due.point.name, trashed_seconds=round(seconds, 3))
    parts = (thinning.host, str(due.run), point_key(due.kind, due.point.name), str(thinning.state.version))
    return NewEvent(derived_id("purge-ordered", *parts), fact)


async def _remove(thinning: Thinning, trashed: Trashed, bin_: int) -> int:
    if trashed.kind is Kind.ARCHIVE:
        return await to_the_end(remove_archive, thinning.folder, trashed)
    syncing, working = OthersSync(thinning.store.descriptor), JobsUnderWay(thinning.store)
    return await remove_tree(
        trashed.name,
        at=bin_,
        pass_fds=(thinning.lock.descriptor,),
        # Nobody waits for a purge: whoever does something that is waited for comes first.
        busy=lambda: working() or syncing(),
    )
