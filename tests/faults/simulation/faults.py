"""What goes wrong: drawn by chance, several times a day, of every kind there is."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from shared.domain.errors import BackupManagerError
from shared.domain.events import ClockTrusted, HoldReleased, Job
from tests.faults.simulation.loop import start
from tests.faults.simulation.parts import EXIT_CODES
from tests.faults.simulation.people import People
from tests.faults.simulation.world import SimProcess

if TYPE_CHECKING:
    from tests.faults.simulation.world import World

MEAN_SECONDS: Final = 3 * 3600.0
"""So much time passes between two faults."""


class Chaos(People):
    """Makes trouble until it is cancelled; `heal` puts everything right."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
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
        known = f"tick.{self._random.choice(list(Job))}.main.{self._host().name}"
        others = ("tick.retention.main.*", "backup.trigger", "tick.archive.main.nobody", "tick.nothing.main.h0")
        subject = known if self._random.random() < 0.7 else self._random.choice(others)
        stream = "TRIGGERS" if subject == "backup.trigger" else "TICKS"
        body = bodies[2] if self._random.random() < 0.5 else self._random.choice(bodies)
        self._world.bus.store(stream, subject, body)

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
        if world.main.pulled:
            return
        world.main.pulled = True
        world.disks.mounted = None
        await self._for(3)
        if world.main.pulled:  # a power cut has put it back meanwhile, and somebody may write to it
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
