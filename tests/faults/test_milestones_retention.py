"""Retention with removal and purge, and undelete: struck at each milestone, nothing is lost that a guard keeps."""

from __future__ import annotations

import pytest

from services.snapshotter.transfer import find_ability
from shared.domain.events import Job
from tests.faults.conftest import Tell
from tests.faults.due_trials import Trials
from tests.faults.struck import Effect
from tests.support.servers import SharedPostgres

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(900)]


@pytest.mark.parametrize(("undelete", "least"), [(False, 18), (True, 3)], ids=["retention", "undelete"])
@pytest.mark.parametrize("effect", Effect)
async def test_struck_at_each_milestone_nothing_is_lost(
    shared_server: SharedPostgres, undelete: bool, least: int, effect: Effect, tell: Tell
) -> None:
    trials = Trials(shared_server, await find_ability(attributes=True), Job.RETENTION, undelete=undelete)
    await trials.learn()
    assert len(trials.reached) >= least, trials.reached
    assert await trials.all_of(effect) == []
    tell(f"{'undelete' if undelete else 'retention'}: {effect} at {len(trials.reached)} milestones")
