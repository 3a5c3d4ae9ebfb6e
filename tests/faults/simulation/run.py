"""One simulation: a month of a small installation in which everything goes wrong, then some days to recover."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any, Final

import msgspec

from services.cli.audit import check_chain, compare_with_drive
from shared.adapters.store import Store
from shared.domain.events import Job
from shared.domain.names import HostName
from shared.domain.projection import State, replay
from shared.domain.schedule import newest_slot
from tests.faults.simulation.faults import Chaos
from tests.faults.simulation.loop import end, start
from tests.faults.simulation.settings import a_store
from tests.faults.simulation.world import Report, World

Meanwhile = Callable[[World], Coroutine[Any, Any, None]]

DAYS: Final = 30
RECOVERY_DAYS: Final = 4
DAY_SECONDS: Final = 86_400.0
WORKERS: Final = 2


def simulate(seed: int, *, days: int = DAYS, faults: bool = True, meanwhile: Meanwhile | None = None) -> Report:
    """Run one seed to its end; `meanwhile` happens besides."""
    world = World(seed)
    with world.installed():
        story = start(world.loop, world.root, lambda: _story(world, days, meanwhile, faults=faults))
        try:
            world.loop.run_until_complete(story)
        finally:
            _end(world)
    return world.report()


def _end(world: World) -> None:
    for process in list(world.processes.values()):
        end(world.loop, process)
    # In the end nothing is left that could still want to do something.
    world.loop.run_until_complete(world.loop.create_task(asyncio.sleep(60)))
    world.loop.close()
    gc.collect()


async def _story(world: World, days: int, meanwhile: Meanwhile | None, *, faults: bool) -> None:
    a_store(world)
    services = [
        asyncio.create_task(world.keep_alive(service))
        for service in ("scheduler", "snapshotter", "archiver", "retention")
        for _ in range(WORKERS)
    ]
    chaos = Chaos(world)
    trouble = asyncio.create_task(chaos.go_on()) if faults else None
    services.append(asyncio.create_task(chaos.look_after()))
    besides = asyncio.create_task(meanwhile(world)) if meanwhile else None
    for _ in range(days):
        await asyncio.sleep(DAY_SECONDS)
        world.watch.look(world.main)
    if trouble is not None:
        trouble.cancel()
        await asyncio.gather(trouble, return_exceptions=True)
    if besides is not None:
        await besides
    await chaos.heal()
    await asyncio.sleep(RECOVERY_DAYS * DAY_SECONDS)
    await _judge(world)
    for service in services:
        service.cancel()
    await asyncio.gather(*services, return_exceptions=True)


async def _judge(world: World) -> None:
    """After recovery everything is as it should be."""
    world.watch.look(world.main)
    log = world.log_of(world.root)
    state = replay([world.logs.events])
    chain = await check_chain(log)  # type: ignore[arg-type]
    for finding in chain.findings:
        world.wrong(f"audit: {finding.sentence}")
    store = Store.open(world.settings.backup_root, world.settings.store)
    for finding in compare_with_drive(store, state):
        world.wrong(f"audit: {finding.sentence}")
    store.close()
    _everything_is_settled(world, state)
    _runs_have_ended(world, state)
    _followers_agree(world, state)


def _everything_is_settled(world: World, state: State) -> None:
    """The newest slot of every job that has been due for a while is settled."""
    now = world.wall()
    for host in world.settings.hosts:
        known = state.hosts[host.name]
        for job in (Job.SNAPSHOT, Job.ARCHIVE, Job.RETENTION):
            hours = host.snapshot_interval_hours if job is Job.SNAPSHOT else world.settings.tar_interval_hours
            slot = newest_slot(hours, now)
            settled = known.settled(job, now)
            if (now - slot).total_seconds() > 4 * 3600 and (settled is None or settled < slot):
                world.wrong(f"the slot {slot} of {job} of {host.name} is not settled, but {settled}")


def _runs_have_ended(world: World, state: State) -> None:
    newest = {
        str(run.run)
        for known in state.hosts.values()
        for run in (known.run, known.archive_run, known.retention_run)
        if run is not None
    }
    for run in world.watch.slots.open_runs():
        if run not in newest:
            world.wrong(f"nobody ever said what became of the run {run}")


def _followers_agree(world: World, state: State) -> None:
    if msgspec.json.encode(state.hosts) != msgspec.json.encode(world.state.hosts):
        world.wrong("a replay and a follower have different states")
    for name, known in state.hosts.items():
        present = {f"snapshot/{point}" for point in known.snapshots}
        present |= {f"archive/{point}" for point in known.archives} | {f"golden/{point}" for point in known.golden}
        if present != world.watch.known[name].present:
            world.wrong(f"the state of {name} is not what the model heard")


__all__ = ["DAYS", "HostName", "simulate"]
