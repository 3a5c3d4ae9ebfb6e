"""What goes wrong: drawn by chance, several times a day, of every kind there is."""

from __future__ import annotations

import asyncio
import contextlib
import os as real_os
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from services.cli.trash import _undelete
from services.retention.dry_run import foreseen
from shared.adapters.jetstream import BusUnavailable
from shared.adapters.store import Store
from shared.domain.errors import BackupManagerError
from shared.domain.events import ClockTrusted, HoldPlaced, HoldReleased, Job, Kind, NewEvent, PlanConfirmed, PointLost
from shared.domain.host_state import HostState
from shared.domain.ids import derived_id
from shared.domain.messages import Cancel, Trigger
from shared.domain.names import SETTINGS_STREAM, HostName, host_stream
from tests.faults.simulation.disk import FakeFcntl, Inode
from tests.faults.simulation.loop import start
from tests.faults.simulation.parts import EXIT_CODES
from tests.faults.simulation.world import SimProcess, changed

if TYPE_CHECKING:
    from tests.faults.simulation.world import World

MEAN_SECONDS: Final = 3 * 3600.0
"""So much time passes between two faults."""

HOUR: Final = 3600.0


class Chaos:
    """Makes trouble until it is cancelled; `heal` puts everything right."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.random
        self._under_way: set[asyncio.Task[None]] = set()
        self._kinds = [
            self.kill, self.kill, self.die_at_a_step, self.die_at_a_step, self.stop_for_a_while, self.cut_off,
            self.power_cut, self.log_away, self.bus_away, self.bus_forgets, self.ticks_again, self.rubbish,
            self.disk_full, self.drive_swapped, self.drive_pulled, self.rsync_fails, self.host_offline,
            self.source_shrinks, self.hold, self.cancel, self.trigger, self.trigger, self.policy, self.undelete,
            self.confirm, self.clock_jumps, self.restart_all, self.somebody_reads, self.somebody_removes,
        ]  # fmt: skip

    async def go_on(self) -> None:
        """Make trouble again and again."""
        world, random = self._world, self._random
        world.lossy = True
        while True:
            await asyncio.sleep(random.expovariate(1 / MEAN_SECONDS))
            fault: Any = random.choice(self._kinds)
            world.faults[fault.__name__] += 1
            world.trace("fault", fault.__name__)
            # Each in a process of its own: some are commands of the product.
            process = world.process("person")
            task = start(world.loop, process, partial(self._make, fault))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _make(self, fault: Any) -> None:
        try:
            await fault()
        except (BackupManagerError, OSError):
            return  # a command that could not do what was wanted

    async def heal(self) -> None:
        """Put everything right."""
        world = self._world
        world.lossy = False
        while self._under_way:
            await asyncio.wait(set(self._under_way))
        world.offset = timedelta()
        world.synchronised = True
        for host in world.settings.hosts:
            await self._tell(host.name, HoldReleased(reason="simulated"))
            state = self._state(host.name)
            if state.clock_doubt_us is not None:
                await self._tell(host.name, ClockTrusted(reason="simulated"))
        await self.restart_all()

    def _some(self) -> SimProcess | None:
        alive = self._world.alive()
        return self._random.choice(alive) if alive else None

    def _host(self) -> Any:
        return self._random.choice(self._world.settings.hosts)

    def _state(self, host: str) -> HostState:
        return self._world.state.hosts.get(host, HostState())

    async def _tell(self, host: Any, fact: Any) -> None:
        log = self._world.log_of(self._world.root)
        identity = derived_id("simulated", str(len(self._world.logs.events)))
        await log.append(host_stream(host), None, [NewEvent(identity, fact)])

    async def _for(self, hours: float) -> None:
        await asyncio.sleep(self._random.random() * hours * HOUR)

    # Processes.

    async def kill(self) -> None:
        if process := self._some():
            self._world.kill(process)

    async def die_at_a_step(self) -> None:
        if process := self._some():
            process.step_limit = self._random.randint(1, 60)

    async def stop_for_a_while(self) -> None:
        if process := self._some():
            process.running.clear()
            await self._for(1)
            process.running.set()

    async def cut_off(self) -> None:
        if process := self._some():
            process.cut_off = True
            await self._for(1)
            process.cut_off = False

    async def restart_all(self) -> None:
        for process in self._world.alive():
            process.stop.set()

    async def power_cut(self) -> None:
        world = self._world
        world.main.pulled = False
        for process in world.alive():
            process.children.clear()
            world.kill(process)
        for descriptor in list(world.disks.opened):
            if world.disks.opened[descriptor].owner is None:
                world.disks.close(descriptor)
        world.main.cut_power(self._random)
        world.bus.restart(lose_store=False)
        world.watch.look(world.main)

    # Log and bus.

    async def log_away(self) -> None:
        self._world.logs.set_away(away=True)
        await self._for(self._random.choice((1, 1, 6)))
        self._world.logs.set_away(away=False)
        self._world.log_back = self._world.loop.time()

    async def bus_away(self) -> None:
        self._world.bus.away = True
        await self._for(self._random.choice((1, 1, 6)))
        self._world.bus.away = False
        self._world.bus.wake()

    async def bus_forgets(self) -> None:
        self._world.bus.restart(lose_store=self._random.random() < 0.5)

    async def ticks_again(self) -> None:
        """What was consumed comes again, as after the bus lost its newest minutes."""
        world = self._world
        for message in list(world.bus.history)[-self._random.randint(1, 10) :]:
            world.bus.store(message.stream, message.subject, message.body)

    async def rubbish(self) -> None:
        bodies = (b"", b"{", b'{"slot":"2027-01-01T00:00:00Z"}', b'{"slot":"2026-03-02T00:00:00"}', b"\xff" * 70_000)
        subject = self._random.choice(
            ("tick.snapshot.main.h0", "tick.retention.main.*", "backup.trigger", "tick.archive.main.nobody")
        )
        stream = "TRIGGERS" if subject == "backup.trigger" else "TICKS"
        self._world.bus.store(stream, subject, self._random.choice(bodies))

    # The drive.

    async def disk_full(self) -> None:
        drive = self._world.main
        drive.full, drive.says_full = True, self._random.random() < 0.5
        await self._for(6)
        drive.full = drive.says_full = False

    async def drive_swapped(self) -> None:
        disks = self._world.disks
        disks.mounted = None
        await self._for(3)
        disks.mounted = self._world.main

    async def drive_pulled(self) -> None:
        world = self._world
        world.main.pulled = True
        world.disks.mounted = None
        await self._for(3)
        world.main.cut_power(self._random)
        world.main.pulled = False
        world.disks.mounted = world.main

    # Hosts.

    async def rsync_fails(self) -> None:
        source = self._world.sources[self._host().name]
        source.trouble = 23 if self._random.random() < 0.3 else self._random.choice(EXIT_CODES)
        await self._for(self._random.choice((12, 72)))
        source.trouble = 0

    async def host_offline(self) -> None:
        source = self._world.sources[self._host().name]
        source.online = False
        await self._for(self._random.choice((6, 24, 96)))
        source.online = True

    async def source_shrinks(self) -> None:
        source = self._world.sources[self._host().name]
        source.shrunken = True
        await self._for(24)
        source.shrunken = False

    # People.

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

    # The clock.

    async def clock_jumps(self) -> None:
        world, random = self._world, self._random
        if world.offset:
            return
        world.offset = random.choice((1, 1, 1, -1, -1, -1)) * random.choice((timedelta(hours=1), timedelta(days=1)))
        if random.random() < 0.15:
            world.offset = timedelta(days=-20_000)
        world.synchronised = random.random() < 0.3
        await self._for(12)
        world.offset = timedelta()
        world.synchronised = True


def _targets(folder: dict[str, Inode]) -> set[str]:
    """What `current` and `latest` lead to."""
    links = [folder[name] for name in ("current", "latest") if name in folder]
    return {link.data.decode().removeprefix("hourly/") for link in links}
