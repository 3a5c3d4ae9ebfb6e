"""Restores: struck at each milestone, the restore point is untouched and nothing half restored looks whole."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from services.snapshotter.transfer import find_ability
from shared.adapters.clock import SystemClock
from shared.adapters.milestones import Milestone
from shared.adapters.postgres import EventLog
from shared.domain.events import Job, RestoreCompleted, RestoreFailed
from shared.domain.messages import Tick
from shared.domain.schedule import trigger_slot
from shared.runtime.worker import Done
from tests.faults.conftest import Tell
from tests.faults.milestones import milestones_of, strike, until_done
from tests.faults.struck import Effect, Given
from tests.support.backups import backups
from tests.support.builders import HOST, MAIN
from tests.support.places import new_place
from tests.support.restoring import Restoring, restoring
from tests.support.servers import SharedPostgres
from tests.support.trees import Tree, differences, snapshot_of

pytestmark = [pytest.mark.campaign, pytest.mark.timeout(900)]

NOT_STRUCK: Final = "nothing"
TRIES: Final = 5
OWNERS: Final = os.geteuid() == 0


@dataclass
class Restores:
    """A host whose snapshot is restored again and again, each time struck elsewhere."""

    host: Restoring
    target: str
    given: Given
    whole: Tree
    original: Tree
    reached: list[Milestone] = field(default_factory=list)

    async def learn(self) -> None:
        """Learn which milestones are reached when nothing strikes."""
        await self.host.ask(target=self.target)
        self.reached = await milestones_of(self.given)

    async def struck(self, milestone: Milestone, effect: Effect) -> list[str]:
        """Strike one restore at a milestone; returns what was wrong."""
        host, before = self.host, set(self.there())
        restore = await host.ask(target=self.target)
        tick = Tick(Job.RESTORE, MAIN, HOST, trigger_slot(SystemClock().now()))
        given = Given(self.given.settings, tick, SystemClock(), self.given.ability, milestone, effect, self.given.notes)
        wrong = await strike(given, host.work) + self.looks(before)
        if not await until_done(host.work, Done(), TRIES):
            wrong.append("the restore is never done")
        wrong += self.looks(before)
        outcome = (await host.events(restore))[-1]
        given_up = isinstance(outcome, RestoreFailed) and outcome.final and effect is Effect.RAISE
        if given_up:
            outcome = await host.restored(target=self.target)
        if not isinstance(outcome, RestoreCompleted):
            return [*wrong, f"it ended with {outcome}"]
        finals = [event for event in await host.events(restore) if isinstance(event, RestoreCompleted)]
        if len(finals) > 1:
            wrong.append("it was completed twice")
        for place in outcome.places:
            tree = Path(place.partition(":")[2] or place) / "home"
            wrong += differences(self.whole, snapshot_of(tree), owners=OWNERS)
        return wrong

    def there(self) -> list[str]:
        """What lies where these restores go."""
        if self.target == "folder":
            return self.host.names()
        return sorted(os.listdir(self.host.backup.source))

    def looks(self, before: set[str]) -> list[str]:
        """What looks whole and is not, and what of the restore point or the original has changed."""
        host = self.host
        snapshot = snapshot_of(host.taken.path / "home")
        wrong = [f"the snapshot: {one}" for one in differences(self.whole, snapshot, owners=OWNERS)]
        original = snapshot_of(host.backup.source / "home")
        wrong += [f"the original: {one}" for one in differences(self.original, original)]
        for name in set(self.there()) - before:
            if self._says_whole(name):
                found = snapshot_of(self._place(name) / "home")
                wrong += [f"{name}: {one}" for one in differences(self.whole, found, owners=OWNERS)]
        return wrong

    def _place(self, name: str) -> Path:
        return (self.host.folder if self.target == "folder" else self.host.backup.source) / name

    def _says_whole(self, name: str) -> bool:
        if self.target == "folder":
            return not name.startswith(".partial-")
        return ".restored-" in name and self._place(f"{name}.verified").exists()


@asynccontextmanager
async def restores(server: SharedPostgres, target: str) -> AsyncIterator[Restores]:
    with new_place() as place:
        async with server.fresh_database() as database, backups(place) as backup:
            log = EventLog(database.worker_dsn)
            async with restoring(backup, log, postgres_dsn=database.worker_dsn) as host:
                if target == "host":
                    await host.make_key()
                tick = Tick(Job.RESTORE, MAIN, HOST, trigger_slot(SystemClock().now()))
                ability = await find_ability(attributes=True)
                given = Given(host.settings, tick, SystemClock(), ability, NOT_STRUCK, Effect.RAISE, place)
                yield Restores(host, target, given, host.taken.tree, snapshot_of(backup.source / "home"))
            await log.close()


@pytest.mark.parametrize(("target", "least"), [("folder", 12), ("host", 11)])
@pytest.mark.parametrize("effect", Effect)
async def test_struck_at_each_milestone_nothing_half_restored_looks_whole(
    shared_server: SharedPostgres, target: str, least: int, effect: Effect, tell: Tell
) -> None:
    async with restores(shared_server, target) as trials:
        await trials.learn()
        assert len(trials.reached) >= least, trials.reached
        for milestone in trials.reached:
            assert await trials.struck(milestone, effect) == [], milestone
        tell(f"restore to a {target}: {effect} at {len(trials.reached)} milestones")
