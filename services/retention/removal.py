"""From a verdict to a point in the trash: order, then move, then say so. One point at a time."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from uuid import UUID

from services.retention.recovery import trashed_event
from shared.adapters.milestones import Milestone, reached
from shared.adapters.store import HostFolder
from shared.adapters.threads import to_the_end
from shared.adapters.trash import Trashed, alone, throw_away
from shared.domain.errors import PointInUse
from shared.domain.events import NewEvent, RemovalOrdered
from shared.domain.host_state import HostState
from shared.domain.ids import derived_id
from shared.domain.names import HostName
from shared.domain.restore_points import Verdict
from shared.runtime.host_log import HostLog

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Remover:
    """Moves the points of one host to the trash, on behalf of one run and one version of the policy."""

    host: HostName
    folder: HostFolder
    log: HostLog
    run: UUID
    policy: str

    async def remove(self, verdict: Verdict, state: HostState) -> bool:
        """Remove one point; False when somebody reads it just now.

        Raises LogConflict when the log has moved on since the plan was made: decide again. Raises LogUnavailable:
        nothing is deleted without the log. Raises OSError when the drive fails.
        """
        point = verdict.point
        trashed = Trashed(self.run, point.kind, point.name)
        try:
            with alone(self.folder, point.kind, point.name):
                reached(Milestone.REMOVAL_ALONE)
                await self.log.append(self.host, state, [self._order(verdict)])
                reached(Milestone.REMOVAL_ORDERED)
                await to_the_end(throw_away, self.folder, self.run, point.kind, point.name)
        except PointInUse:
            log.info("%s is being read and stays for now.", point.key)
            return False
        await self.log.record(self.host, [trashed_event(self.host, trashed)])
        reached(Milestone.REMOVAL_TOLD)
        log.info("%s lies in the trash: %s.", point.key, "; ".join(verdict.reasons))
        return True

    def _order(self, verdict: Verdict) -> NewEvent:
        point = verdict.point
        fact = RemovalOrdered(
            run=self.run,
            kind=point.kind,
            point=point.name,
            policy=self.policy,
            tier=verdict.tier,
            reasons=verdict.reasons,
            covered_by=verdict.covered_by,
        )
        return NewEvent(derived_id("ordered", self.host, str(self.run), point.key), fact)
