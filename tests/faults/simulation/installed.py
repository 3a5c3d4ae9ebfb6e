"""What of the product is replaced in a simulation, and by what. Everything else is the product itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import services.archiver.archive
import services.archiver.golden
import services.archiver.handler
import services.archiver.service
import services.cli.trash
import services.retention.facts
import services.retention.handler
import services.retention.purge
import services.retention.service
import services.scheduler.service
import services.snapshotter.admission
import services.snapshotter.handler
import services.snapshotter.run
import services.snapshotter.service
import services.snapshotter.upkeep
import shared.adapters.anchors
import shared.adapters.beneath
import shared.adapters.filesystem
import shared.adapters.held_locks
import shared.adapters.markers
import shared.adapters.restore_points
import shared.adapters.store
import shared.adapters.trash
import shared.runtime.cancel
import shared.runtime.outbox
import shared.runtime.rejected
import shared.runtime.worker
import shared.runtime.workplace
from shared.config import Settings
from tests.faults.simulation.bus import FakeBus
from tests.faults.simulation.eventlog import FakeLog
from tests.faults.simulation.fake_os import FakePath
from tests.faults.simulation.libc import FakeFcntl, FakeLibc
from tests.faults.simulation.loop import here
from tests.faults.simulation.parts import ABILITY, FakeOpener, Parts
from tests.faults.simulation.spool import FakeSpool

if TYPE_CHECKING:
    from tests.faults.simulation.world import World


class FakeClock:
    """The machine's clock, which may be wrong."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> datetime:
        here().check()
        return self._world.wall()

    def is_synchronised(self) -> bool:
        return self._world.synchronised

    def unix_ms(self) -> int:
        return int(self._world.wall().timestamp() * 1000)

    def monotonic(self) -> float:
        return self._world.loop.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))
        await here().gate()


def replacements(world: World) -> dict[Any, dict[str, Any]]:
    """What of the product is replaced: clock, chance, drives, bus, log, and the programs that it runs."""
    parts, clock = Parts(world), FakeClock(world)
    secrets = SimpleNamespace(randbits=world.random.getrandbits)
    os, fcntl = world.os, FakeFcntl(world.disks)
    FakePath.os, FakeOpener.os, FakeSpool.world = os, os, world

    async def connect(_url: str, _user: object) -> FakeBus:
        process: Any = here()
        bus = world.bus_of(process)
        await bus.ask()
        return bus

    client = {
        "EventLog": lambda _dsn: world.log_of(here()),  # type: ignore[arg-type]
        "Bus": SimpleNamespace(connect=connect),
        "SystemClock": lambda: clock,
    }

    async def ability(**_: object) -> Any:
        return ABILITY

    quiet = SimpleNamespace(node=lambda: "machine")
    with_os: dict[Any, dict[str, Any]] = {
        shared.adapters.anchors: {}, shared.adapters.beneath: {}, shared.adapters.held_locks: {},
        shared.adapters.markers: {}, shared.adapters.restore_points: {}, shared.adapters.store: {},
        shared.adapters.filesystem: {"fcntl": fcntl, "ctypes": FakeLibc(os), "Opener": FakeOpener},
        shared.adapters.trash: {"fcntl": fcntl},
        services.archiver.archive: {"pack": parts.pack, "read_back": parts.read_back},
        services.archiver.golden: {"link_tree": parts.link_tree},
        services.retention.facts: {"held_places": lambda: held_places(world)},
        shared.runtime.workplace: {**client, "platform": quiet},
    }  # fmt: skip
    return {
        **{module: {"os": os, **values} for module, values in with_os.items()},
        services.archiver.handler: {"secrets": secrets, "LOG_RETRY_SECONDS": 600.0},
        services.retention.handler: {"secrets": secrets, "LOG_RETRY_SECONDS": 600.0},
        services.retention.purge: {
            "remove_tree": parts.remove_tree,
            "OthersSync": lambda _: bool,
            "JobsUnderWay": lambda _: bool,
        },
        services.scheduler.service: {
            **client,
            "secrets": secrets,
            "PASS_SECONDS": 1200.0,
            "LOG_RETRY_SECONDS": 120.0,
            "WISH_RETRY_SECONDS": 60.0,
        },
        services.snapshotter.admission: {"estimate": parts.estimate},
        services.snapshotter.handler: {
            "secrets": secrets,
            "connected": parts.connected,
            "dry_run": SimpleNamespace(try_host=parts.try_host),
        },
        services.snapshotter.run: {
            "transfer": parts.transfer,
            "lists": SimpleNamespace(sort_list=parts.sort_list, write_lists=parts.write_lists),
            "WRITE_BACK_SECONDS": 600.0,
        },
        services.snapshotter.service: {"find_ability": ability},
        services.snapshotter.upkeep: {"LOOK_SECONDS": 6 * 3600.0},
        services.cli.trash: {"session": SimpleNamespace(event_log=_session_log(world))},
        shared.runtime.cancel: {"LOOK_AGAIN_SECONDS": 3600.0},
        shared.runtime.outbox: {"Spool": FakeSpool, "RELAY_SECONDS": 3600.0},
        shared.runtime.worker: {"BUSY_RETRY_SECONDS": 150.0, "ERROR_RETRY_SECONDS": 300.0},
        shared.runtime.rejected: {"SystemClock": lambda: clock, "secrets": secrets},
    }


def _session_log(world: World) -> Any:
    @contextmanager
    def nothing() -> Iterator[None]:
        yield

    class Session:
        def __init__(self, _settings: Settings) -> None:
            self._scope = nothing()

        async def __aenter__(self) -> FakeLog:
            return world.log_of(here())  # type: ignore[arg-type]

        async def __aexit__(self, *_: object) -> None:
            return

    return Session


def held_places(world: World) -> frozenset[str]:
    """What /proc/locks tells."""
    return frozenset(
        f"{opened.drive.device >> 8:02x}:{opened.drive.device:02x}:{opened.inode.number}"
        for opened in world.disks.opened.values()
        if opened.inode.locks
    )
