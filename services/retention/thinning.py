"""The story of thinning a host out: plan, remove, purge, and say what came of it."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from typing import Final

from services.retention import steps
from services.retention.facts import look_at_drive
from services.retention.purge import purge
from services.retention.removal import Remover
from services.retention.run import Thinning
from shared.adapters.milestones import Milestone, reached
from shared.adapters.threads import in_thread, stop_if_cancelled
from shared.domain.errors import LogConflict
from shared.domain.events import AlertRaised, ClockTrusted, RetentionCompleted
from shared.domain.host_state import TrashedPoint, moment_of, point_key
from shared.domain.inventory import hold_of, policy_changed_at, purgeable
from shared.domain.names import SETTINGS_STREAM
from shared.domain.retention import RetentionPlan, plan

_PASSING: Final = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d|\d+ (removal|point)s?")
"""What changes from run to run in the reason of a refusal that stays the same."""

log = logging.getLogger(__name__)


async def thin_out(thinning: Thinning) -> None:
    """Plan, remove, purge, and say what came of it. Raises LogUnavailable, StoreRefused and OSError."""
    started = thinning.clock.monotonic()
    await _trust_clock(thinning)
    made = await _remove(thinning)
    await _purge(thinning)
    await _tell_what_is_odd(thinning, made)
    completed = RetentionCompleted(
        run=thinning.run,
        slot=thinning.slot,
        policy=made.policy,
        kept=len(made.verdicts) - len(made.removals),
        removed=thinning.removed,
        purged=thinning.purged,
        refused=made.refused,
        foreign=thinning.drive.foreign,
        duration_seconds=round(thinning.clock.monotonic() - started, 3),
    )
    await thinning.record(steps.COMPLETED, completed)
    reached(Milestone.RETENTION_TOLD)
    log.info("%d kept, %d to the trash, %d purged.", completed.kept, completed.removed, completed.purged)


async def _catch_up(thinning: Thinning) -> None:
    """Learn what has happened since the run began, so that what is decided next is decided on it."""
    stop_if_cancelled()
    settings = await thinning.log.events.read_stream(SETTINGS_STREAM)
    thinning.policy_changed_at = policy_changed_at(settings, thinning.settings.described(), thinning.clock.now())
    await thinning.log.refresh(thinning.host, thinning.state)
    if thinning.facts().not_on_drive:  # most likely it was made only after somebody looked
        thinning.drive = await in_thread(look_at_drive, thinning.folder, finish_moves=True)


async def _trust_clock(thinning: Thinning) -> None:
    """A jump is forgiven when something keeps the clock right and a good backup was made since."""
    state = thinning.state
    if state.clock_doubt_us is None or not thinning.clock.is_synchronised():
        return
    newest = state.newest()
    if newest is not None and (newest.taken_us or 0) >= state.clock_doubt_us:
        fact = ClockTrusted(reason="The kernel says that it is synchronised, and a backup was made since.")
        await thinning.record(steps.CLOCK_TRUSTED, fact)
        await thinning.log.refresh(thinning.host, state)


async def _remove(thinning: Thinning) -> RetentionPlan:
    """Carry the plan out, point by point, deciding anew before each; returns the last plan that was made."""
    policy = thinning.settings.policy()
    remover = Remover(thinning.host, thinning.folder, thinning.log, thinning.run, policy.version())
    while True:
        await _catch_up(thinning)
        made = plan(thinning.facts(), policy, thinning.clock.now(), hold_of(thinning.state))
        # One that lies in the trash under the same name is purged first: the log tells them apart by nothing else.
        staying = thinning.in_use.union(thinning.state.trash)
        going = [verdict for verdict in made.removals if verdict.point.key not in staying]
        if made.refused or not going:
            return made
        first = going[0]
        key = first.point.key
        reached(Milestone.REMOVAL_DECIDED)
        thinning.store.check()
        try:
            if await remover.remove(first, thinning.state):
                thinning.removed += 1
                thinning.drive = replace(thinning.drive, points=thinning.drive.points - {key})
            else:
                thinning.in_use.add(key)
        except LogConflict:
            continue  # something happened to this host meanwhile: decide again


async def _purge(thinning: Thinning) -> None:
    """Empty the trash of what has lain there long enough, deciding anew before each."""
    tried: set[str] = set()
    while (due := await _next_to_purge(thinning, tried)) is not None:
        reached(Milestone.PURGE_DECIDED)
        thinning.store.check()
        try:
            thinning.purged += await purge(thinning, due)
        except LogConflict:
            continue  # something happened to this host meanwhile: decide again
        tried.add(_key(due))


async def _next_to_purge(thinning: Thinning, tried: Collection[str]) -> TrashedPoint | None:
    """What is to be purged next; nothing while clock or inventory are in doubt. Time is what the log says it is."""
    await _catch_up(thinning)
    facts, state = thinning.facts(), thinning.state
    if facts.clock_doubt or facts.not_on_drive or facts.not_in_log:
        return None
    grace, now = timedelta(hours=thinning.settings.trash_hours), min(thinning.clock.now(), moment_of(state.recorded_us))
    due = purgeable(state.trash, grace, hold_of(state), now)
    return next((trashed for trashed in due if _key(trashed) not in tried), None)


def _key(trashed: TrashedPoint) -> str:
    return point_key(trashed.kind, trashed.point.name)


async def _tell_what_is_odd(thinning: Thinning, made: RetentionPlan) -> None:
    """Raise an alert for what a person has to look at, once and not at every run."""
    last = thinning.state.last_retention
    if made.refused and (last is None or _gist(last.refused) != _gist(made.refused)):
        alert = AlertRaised(kind="retention_refused", evidence=" ".join(made.refused), run=thinning.run)
        await thinning.record(steps.REFUSED, alert)
    news = set(thinning.drive.foreign) - set(last.foreign if last else ())
    if news:
        evidence = f"Among the restore points lies what is not ours: {', '.join(sorted(news)[:5])}."
        alert = AlertRaised(kind="foreign_entries", evidence=evidence, run=thinning.run)
        await thinning.record(steps.FOREIGN, alert)


def _gist(refused: Collection[str]) -> set[str]:
    return {_PASSING.sub("", reason) for reason in refused}
