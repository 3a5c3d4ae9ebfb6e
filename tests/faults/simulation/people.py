"""What people do meanwhile: wishes, holds, cancels, other settings, and worse."""

from __future__ import annotations

import asyncio
import contextlib
import os as real_os
from typing import TYPE_CHECKING, Any, Final

from services.cli.trash import _undelete
from services.retention.dry_run import foreseen
from shared.adapters.jetstream import BusUnavailable
from shared.adapters.store import Store
from shared.domain.errors import BackupManagerError, LogUnavailable
from shared.domain.events import HoldPlaced, HoldReleased, Job, Kind, NewEvent, PlanConfirmed, PointLost
from shared.domain.host_state import HostState
from shared.domain.ids import derived_id
from shared.domain.messages import Cancel, Trigger
from shared.domain.names import SETTINGS_STREAM, HostName, host_stream
from tests.faults.simulation.disk import Inode
from tests.faults.simulation.libc import FakeFcntl
from tests.faults.simulation.settings import changed

if TYPE_CHECKING:
    from tests.faults.simulation.world import World

HOUR: Final = 3600.0


class People:
    """Everybody who uses the installation."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.random
        self._told = 0

    def _host(self) -> Any:
        return self._random.choice(self._world.settings.hosts)

    def _state(self, host: str) -> HostState:
        return self._world.state.hosts.get(host, HostState())

    async def _tell(self, host: Any, fact: Any) -> None:
        log = self._world.log_of(self._world.root)
        self._told += 1  # each wish is one of its own, also of those that wait for a log that is away
        identity = derived_id("simulated", str(self._told))
        while True:
            try:
                await log.append(host_stream(host), None, [NewEvent(identity, fact)])
            except LogUnavailable:
                await asyncio.sleep(HOUR)
            else:
                return

    async def _for(self, hours: float) -> None:
        await asyncio.sleep(self._random.random() * hours * HOUR)

    async def hold(self) -> None:
        host = self._host().name
        names = sorted(self._state(host).snapshots)
        pinned = self._random.choice([*names, None])
        await self._tell(host, HoldPlaced(reason="simulated", pinned=pinned, by="person"))
        await self._for(96)
        await self._tell(host, HoldReleased(reason="simulated"))

    async def cancel(self) -> None:
        await self._world.bus_of(self._world.root).publish_cancel(Cancel(self._host().name, "person"))

    async def trigger(self) -> None:
        hosts = None if self._random.random() < 0.2 else (self._host().name,)
        job = self._random.choice((Job.SNAPSHOT, Job.ARCHIVE, Job.RETENTION))
        wish = Trigger(hosts=hosts, job=job, dry_run=self._random.random() < 0.2, by="person")
        try:
            await self._world.bus_of(self._world.root).publish_trigger(wish)
        except BusUnavailable:
            return

    async def policy(self) -> None:
        world, random = self._world, self._random
        world.settings = changed(
            world.settings,
            hourly_retention_hours=random.choice((12, 24, 48, 72)),
            daily_retention_days=random.randint(1, 6),
            tar_retention_days=random.randint(1, 3),
        )
        for process in world.alive():
            await self._for(1)
            process.stop.set()

    async def undelete(self) -> None:
        host = self._host().name
        if lying := sorted(self._state(host).trash):
            await _undelete(self._world.settings, host, self._random.choice(lying))

    async def confirm(self) -> None:
        await self._confirm(self._host().name)

    async def look_after(self) -> None:
        """A person who looks at the plans every day and agrees to most of them."""
        while True:
            await asyncio.sleep(24 * HOUR)
            for host in self._world.settings.hosts:
                if self._random.random() < 0.7:
                    with contextlib.suppress(BackupManagerError, OSError):
                        await self._confirm(host.name)

    async def _confirm(self, host: HostName) -> None:
        world = self._world
        state = self._state(host)
        store = Store.open(world.settings.backup_root, world.settings.store)
        try:
            recorded = world.logs.streams.get(SETTINGS_STREAM, [])
            made = await foreseen(host, state, store, world.settings, recorded=recorded, now=world.wall())
        finally:
            store.close()
        keys = tuple(verdict.point.key for verdict in made.removals)
        if keys:
            await self._tell(host, PlanConfirmed(points=keys, by="person"))

    async def somebody_reads(self) -> None:
        """A restore point is restored for hours: nobody may move it."""
        world, host = self._world, self._host().name
        if not (names := sorted(self._state(host).snapshots)):
            return
        descriptor = world.os.open(f"/drive/{host}/hourly/{self._random.choice(names)}", real_os.O_DIRECTORY)
        with contextlib.suppress(BlockingIOError):
            FakeFcntl(world.disks).flock(descriptor, FakeFcntl.LOCK_SH | FakeFcntl.LOCK_NB)
            await self._for(96)
        world.os.close(descriptor)

    async def somebody_removes(self) -> None:
        """A stranger removes a snapshot by hand; days later a person says that it is lost."""
        world, host = self._world, self._host().name
        names = sorted(self._state(host).snapshots)[:-1]
        folder = world.main.root.entries[host].entries
        at = folder["hourly"].entries
        names = [name for name in names if name in at and not at[name].locks and name not in _targets(folder)]
        if not names:
            return
        name = self._random.choice(names)
        del at[name]
        world.main.sync_names()
        await asyncio.sleep(3 * HOUR)
        if name in self._state(host).snapshots:
            world.watch.missing.add((host, name))
            await self._for(48)
            world.watch.missing.discard((host, name))
            if name in self._state(host).snapshots and name not in at:
                await self._tell(host, PointLost(kind=Kind.SNAPSHOT, point=name, reason="simulated"))


def _targets(folder: dict[str, Inode]) -> set[str]:
    """What `current` and `latest` lead to."""
    links = [folder[name] for name in ("current", "latest") if name in folder]
    return {link.data.decode().removeprefix("hourly/") for link in links}
