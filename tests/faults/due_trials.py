"""Trials of a host whose jobs are all due: what is done to it is struck at a milestone, and then looked at closely."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from services.cli.audit import check_chain, compare_with_drive
from services.cli.trash import _undelete
from services.snapshotter.rsync import Ability
from shared.adapters.milestones import Milestone
from shared.adapters.trash import contents
from shared.domain.events import (
    ArchiveCompleted,
    ArchiveFailed,
    Job,
    PointUndeleted,
    Quality,
    SnapshotCompleted,
    SnapshotFailed,
)
from shared.domain.messages import Tick
from shared.domain.names import snapshot_name
from shared.domain.projection import State
from shared.runtime.outbox import Outbox
from shared.runtime.worker import Done
from tests.faults.due import DUE, TRIES, Jobs, jobs, judge
from tests.faults.milestones import milestones_of, strike, until_done
from tests.faults.struck import Effect, Given
from tests.support.builders import MAIN
from tests.support.servers import SharedPostgres
from tests.support.thinning import EXPIRED, EXPIRED_NAMES
from tests.support.trees import Tree, differences, snapshot_of

NOT_STRUCK: Final = "nothing"
UNDELETED: Final = EXPIRED[0]


@dataclass
class Trials:
    """What is done, again and again: a job, or bringing back what retention has thrown away."""

    server: SharedPostgres
    ability: Ability
    job: Job
    undelete: bool = False
    reached: list[Milestone] = field(default_factory=list)

    async def learn(self) -> None:
        """Learn which milestones are reached when nothing strikes."""
        async with jobs(self.server, self.ability) as host:
            await self._prepare(host)
            self.reached = await milestones_of(self._given(host, NOT_STRUCK, Effect.RAISE))
            await self._end_well(host, Effect.STALL)

    async def all_of(self, effect: Effect) -> list[str]:
        """Strike at each; returns what was wrong."""
        return [
            f"{effect} at {milestone}: {sentence}"
            for milestone in self.reached
            for sentence in await self.struck(milestone, effect)
        ]

    async def struck(self, milestone: Milestone, effect: Effect) -> list[str]:
        """Strike at one; returns what was wrong."""
        async with jobs(self.server, self.ability) as host:
            await self._prepare(host)
            before = _trees(host)
            wrong = await strike(self._given(host, milestone, effect), self._do(host))
            wrong += _changed(before, host)
            try:
                await self._end_well(host, effect)
            except AssertionError as error:
                wrong.append(f"{error!r} at {traceback.extract_tb(error.__traceback__)[-1].line}")
            return [*wrong, *_changed(before, host), *await _audit(host)]

    async def _prepare(self, host: Jobs) -> None:
        home = host.place.store.root.parent / "home"
        (home / "link").symlink_to("file")
        (home / "deep/er").mkdir(parents=True)
        (home / "deep/er/big").write_bytes(bytes(range(256)) * 4096)
        if self.undelete:
            await host.place.change_settings(trash_hours=24)
            await host.handle_until_done(Job.RETENTION)

    def _given(self, host: Jobs, milestone: str, effect: Effect) -> Given:
        place = host.place
        tick = Tick(self.job, MAIN, place.host, DUE)
        key = UNDELETED if self.undelete else ""
        notes = place.store.root.parent
        return Given(place.settings, tick, place.clock, self.ability, milestone, effect, notes, key)

    def _do(self, host: Jobs) -> Callable[[], Awaitable[object]]:
        if self.undelete:
            return lambda: _undelete(host.place.settings, host.place.host, UNDELETED)
        return lambda: host.handle(self.job)

    async def _end_well(self, host: Jobs, effect: Effect) -> None:
        place = host.place
        if self.undelete:
            if UNDELETED in {lying.key for lying in contents(place.folder)}:
                await _undelete(place.settings, place.host, UNDELETED)
            await host.handle_until_done(Job.RETENTION)
            await place.run_at(place.clock.at)  # a move that was never told is told by the next run
            await place.agree()
            assert UNDELETED in {f"snapshot/{snapshot.name}" for snapshot in place.folder.snapshots()}
            assert len(await place.events(PointUndeleted)) == 1
            return
        assert await until_done(lambda: host.handle(self.job), Done(), TRIES), "it is never done"
        await Outbox(place.store, place.log).drain(place.host)
        slot = DUE
        if effect is Effect.RAISE and await self._given_up(host):
            slot = await self._next(host)
        else:
            await judge(host, self.job)
        _is_what_the_host_has(host, self.job, slot)

    async def _given_up(self, host: Jobs) -> bool:
        """Whether it said that this slot has failed for good: a drive that fails is not tried again at once."""
        failed: list[SnapshotFailed | ArchiveFailed] = [
            *await host.place.events(SnapshotFailed),
            *await host.place.events(ArchiveFailed),
        ]
        return any(event.final for event in failed)

    async def _next(self, host: Jobs) -> datetime:
        """The next slot has to make what is due."""
        slot = DUE + timedelta(hours=1)
        await host.place.set_time(slot + timedelta(minutes=1))
        assert await host.handle(self.job, slot) == Done(), "the next slot is not done"
        await host.place.agree()
        made: list[SnapshotCompleted | ArchiveCompleted] = [
            *await host.place.events(SnapshotCompleted),
            *await host.place.events(ArchiveCompleted),
        ]
        # An archive that had its name before it failed is found on the drive; of that snapshot nothing is left to make.
        least = slot if self.job is Job.SNAPSHOT else DUE
        assert any(event.slot >= least for event in made), "nothing was made"
        return slot


def _trees(host: Jobs) -> dict[str, Tree]:
    hourly = host.place.path / "hourly"
    return {path.name: snapshot_of(path) for path in sorted(hourly.iterdir())}


def _changed(before: dict[str, Tree], host: Jobs) -> list[str]:
    """What is wrong with the restore points that were there before, and with `current`."""
    folder, hourly = host.place.folder, host.place.path / "hourly"
    kept = {str(snapshot.name): snapshot.quality for snapshot in folder.snapshots()}
    wrong = [f"{name} is gone" for name in sorted(set(before) - set(kept) - set(EXPIRED_NAMES))]
    for name in sorted(set(before) & set(kept)):
        wrong += [f"{name}: {one}" for one in differences(before[name], snapshot_of(hourly / name))]
    current = (folder.link_target("current") or "").removeprefix("hourly/")
    if current and kept.get(current) is not Quality.COMPLETE:
        wrong.append(f"`current` leads to {current}")
    if (due := snapshot_name(DUE)) in kept:
        home = host.place.store.root.parent / "home"
        wrong += [f"{due}: {one}" for one in differences(snapshot_of(home), snapshot_of(hourly / due / "home"))]
    return wrong


def _is_what_the_host_has(host: Jobs, job: Job, slot: datetime) -> None:
    if job is Job.SNAPSHOT:
        assert host.place.folder.link_target("current") == f"hourly/{snapshot_name(slot)}"
    for sums in (host.place.path / "archives").glob("*.sha256"):
        digest, name = sums.read_text().split()
        assert hashlib.sha256(sums.with_name(name).read_bytes()).hexdigest() == digest


async def _audit(host: Jobs) -> list[str]:
    place = host.place
    state = State()
    state.hosts[place.host] = await place.state()
    chain = await check_chain(place.log)
    return [finding.sentence for finding in (*chain.findings, *compare_with_drive(place.store, state))]
