"""Snapshot, and archive with golden copy: struck at each milestone, they keep every promise.

Each is killed, made to fail, and stopped for as long as it takes another worker to try. Log and drive are real. After
each trial the older restore points are what they were, log and drive tell the same, each fact was told once, what was
called complete is what the host had, and the next run has made what was due.
"""

from __future__ import annotations

import pytest

from services.snapshotter.transfer import find_ability
from shared.domain.events import Job
from tests.faults.conftest import Tell
from tests.faults.due_trials import Trials
from tests.faults.struck import Effect
from tests.support.servers import SharedPostgres

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(900)]


@pytest.mark.parametrize(("job", "least"), [(Job.SNAPSHOT, 14), (Job.ARCHIVE, 17)])
@pytest.mark.parametrize("effect", Effect)
async def test_struck_at_each_milestone_a_run_breaks_no_promise(
    shared_server: SharedPostgres, job: Job, least: int, effect: Effect, tell: Tell
) -> None:
    trials = Trials(shared_server, await find_ability(attributes=True), job)
    await trials.learn()
    assert len(trials.reached) >= least, trials.reached
    assert await trials.all_of(effect) == []
    tell(f"{job}: {effect} at {len(trials.reached)} milestones")
