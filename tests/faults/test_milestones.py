"""Every milestone of the product is reached by a job that the campaigns strike, so none is a dead name.

And a few trials that take seconds, where the campaigns take minutes.
"""

from __future__ import annotations

from typing import Final

import pytest

from services.snapshotter.transfer import find_ability
from shared.adapters.milestones import Milestone
from shared.domain.events import Job
from tests.faults.conftest import Tell
from tests.faults.due_trials import Trials
from tests.faults.struck import Effect
from tests.faults.test_milestones_restores import restores
from tests.support.servers import SharedPostgres

WHAT: Final = (
    (Job.SNAPSHOT, False),
    (Job.ARCHIVE, False),
    (Job.RETENTION, False),
    (Job.RETENTION, True),
)
FEW: Final = (
    (Job.SNAPSHOT, False, Milestone.TREE_MARKED, Effect.KILL),
    (Job.ARCHIVE, False, Milestone.ARCHIVE_RECORD_WRITTEN, Effect.RAISE),
    (Job.RETENTION, False, Milestone.PURGE_UNMARKED, Effect.STALL),
)


@pytest.mark.campaign
@pytest.mark.timeout(900)
async def test_every_milestone_is_reached_by_what_the_campaigns_strike(
    shared_server: SharedPostgres, tell: Tell
) -> None:
    ability = await find_ability(attributes=True)
    reached: set[Milestone] = set()
    for job, undelete in WHAT:
        trials = Trials(shared_server, ability, job, undelete=undelete)
        await trials.learn()
        reached.update(trials.reached)
    for target in ("folder", "host"):
        async with restores(shared_server, target) as restored:
            await restored.learn()
            reached.update(restored.reached)
    assert set(Milestone) - reached == set()
    tell(f"{len(reached)} milestones, and each is reached")


@pytest.mark.parametrize(("job", "undelete", "milestone", "effect"), FEW)
async def test_struck_there_a_run_breaks_no_promise(
    shared_server: SharedPostgres, job: Job, undelete: bool, milestone: Milestone, effect: Effect
) -> None:
    trials = Trials(shared_server, await find_ability(attributes=True), job, undelete=undelete)
    assert await trials.struck(milestone, effect) == []


async def test_a_restore_that_is_killed_before_it_has_its_name_looks_unfinished(shared_server: SharedPostgres) -> None:
    async with restores(shared_server, "folder") as restored:
        assert await restored.struck(Milestone.RESTORE_COMPARED, Effect.KILL) == []
