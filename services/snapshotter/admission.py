"""Whether a run may begin: what it needs has to fit on the drive and into the host's quota."""

from __future__ import annotations

import logging
from typing import Final

from services.snapshotter.connection import Connection
from services.snapshotter.estimate import estimate
from services.snapshotter.failure import FREE_SOME
from services.snapshotter.rsync import NO_ROOM, Ability
from services.snapshotter.run import Run
from services.snapshotter.space import likely_need
from shared.adapters.process import ProcessTimedOut
from shared.domain.errors import RunFailed
from shared.domain.room import Need, Room, why_no_room, why_over_quota

KEEP_LESS: Final = "Raise quota_gib of this host, or keep less of it. Nothing was deleted to make room."

log = logging.getLogger(__name__)


async def why_refused(run: Run, connection: Connection, ability: Ability, used_bytes: int | None) -> RunFailed | None:
    """Why the snapshot would not fit, or None. `used_bytes` of the host, None while the log is away."""
    quota_bytes = connection.host.quota_bytes
    need = likely_need([snapshot.marker.event for snapshot in run.recent], shares=run.base is not None)
    refused = judge(run.store.room(), need, used_bytes, quota_bytes)
    if refused is None:
        return None
    # By the runs before alone, one large transfer would keep its host out for ever: now it is worth counting.
    log.info("%s It is counted what there is to move.", refused.message)
    try:
        counted = await estimate(connection, ability, run.folder, run.base)
    except (RunFailed, ProcessTimedOut) as error:
        log.warning("That could not be counted: %s", error)
        return refused
    return judge(run.store.room(), counted.need, used_bytes, quota_bytes)


def judge(room: Room, need: Need, used_bytes: int | None, quota_bytes: int | None) -> RunFailed | None:
    """Why what is needed does not fit, or None. Pure."""
    if reason := why_no_room(room, need):
        return RunFailed(reason, FREE_SOME, code=NO_ROOM)
    if used_bytes is not None and (reason := why_over_quota(used_bytes, quota_bytes, need)):
        return RunFailed(reason, KEEP_LESS, code="quota")
    return None
