"""What is disturbed: each protocol brings a drive to its goal, wherever a run before it was stopped.

Every one begins like the handler it belongs to, so that the second run is the recovery of the product and not one of
the tests.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Final, cast
from uuid import UUID

from services.retention.purge import purge
from services.retention.removal import Remover
from services.retention.run import Thinning
from shared.adapters.clock import SystemClock
from shared.adapters.restore_points import FOLDERS, archives, golden_copies
from shared.adapters.store import HostFolder
from shared.adapters.trash import bring_back, contents, throw_away
from shared.domain.events import Job, Kind
from shared.domain.host_state import GoldenState, HostState, TrashedPoint
from shared.domain.names import snapshot_name
from shared.domain.restore_points import Point, Verdict
from shared.runtime.host_log import HostLog
from tests.faults.drives import (
    FIRST_RUN,
    NEW_ARCHIVE,
    NEW_GOLDEN,
    NEXT,
    SLOTS,
    VICTIMS,
    Here,
    archive_of,
    golden_of,
    marker,
    put_tree,
)
from tests.support.builders import HOST, SLOT, a_run


class Beside(typing.Protocol):
    """What is wrong beside the store, after a run that was `done` or not; `over` when nobody will come after it."""

    def __call__(self, place: Path, *, done: bool, over: bool) -> Iterator[str]: ...


def _nothing_beside(place: Path, *, done: bool, over: bool) -> Iterator[str]:  # nothing is asked
    yield from ()


def _python_is(script: Path) -> None:
    sys.executable = str(script)


@dataclass(frozen=True, slots=True)
class Protocol:
    """One of them. `victim` is what it moves, removes or makes, or reads; `programs` are the words by which those of
    its processes are known that write, `program` is what runs them, and `stand_in` has a script run in its place.
    They are `steady` when they make the same calls each time, also those to each other.

    `goes`: the victim may lose its marker. `comes`: it is not there before. `calls` is the least number of system
    calls of its main process that change the drive. `beside` is asked about the folder that the store lies in.
    """

    job: Job
    victim: tuple[Kind, str]
    run: Callable[[Here], Awaitable[None]]
    prepare: Callable[[HostFolder], None] = lambda _: None
    programs: str = ""
    program: str = sys.executable
    steady: bool = True
    stand_in: Callable[[Path], None] = _python_is
    beside: Beside = _nothing_beside
    goes: bool = False
    comes: bool = False
    calls: int = 7


class _DeafLog:
    """A log that takes everything: what is written to it is the business of other tests."""

    async def append(self, *_: object) -> None:
        pass

    async def record(self, *_: object) -> None:
        pass


_LOG: Final = cast(HostLog, _DeafLog())


async def _throw_away(here: Here, *, kind: Kind) -> None:
    name = VICTIMS[kind]
    if not any(trashed.key == f"{kind}/{name}" for trashed in contents(here.folder)):
        verdict = Verdict(point=Point(kind=kind, name=name, slot=SLOT), keep=False, tier="expired", reasons=("a test",))
        assert await Remover(HOST, here.folder, _LOG, here.run, "v1").remove(verdict, HostState())


async def _purge(here: Here, *, kind: Kind) -> None:
    thinning = SimpleNamespace(
        store=here.store,
        folder=here.folder,
        lock=here.lock,
        log=_LOG,
        clock=SystemClock(),
        host=HOST,
        state=HostState(),
    )
    for trashed in contents(here.folder):
        assert (trashed.kind, trashed.name) == (kind, VICTIMS[kind])
        point = GoldenState(trashed.name, SLOT, "", 0, 0)  # only its name is asked for
        assert await purge(cast(Thinning, thinning), TrashedPoint(kind, point, trashed.run, 0))


async def _bring_back(here: Here, *, kind: Kind) -> None:
    for trashed in contents(here.folder):
        assert (trashed.kind, trashed.name) == (kind, VICTIMS[kind])
        bring_back(here.folder, trashed)
    here.folder.point_links()


async def _archive(here: Here) -> None:
    if NEW_ARCHIVE not in {archive.name for archive in archives(here.folder)}:
        await archive_of(here, SLOT)


async def _golden(here: Here) -> None:
    if NEW_GOLDEN not in {copy.name for copy in golden_copies(here.folder)}:
        await golden_of(here, SLOT, NEW_GOLDEN)


async def _complete(here: Here) -> None:
    here.folder.point_links()
    if not here.folder.has_snapshot(snapshot_name(NEXT)):
        if not (here.folder.path / f".partial-{here.run}").exists():
            _transferred(here.folder, here.run)
        here.folder.complete(here.run, marker(here.run, NEXT))


def _transferred(folder: HostFolder, run: UUID = FIRST_RUN) -> None:
    put_tree(folder, run, NEXT, folder.path / "hourly" / snapshot_name(SLOTS[-1]))


def _in_trash(folder: HostFolder, *, kind: Kind) -> None:
    throw_away(folder, a_run(), kind, VICTIMS[kind])


def _protocols() -> dict[str, Protocol]:
    made: dict[str, Protocol] = {}
    for kind in Kind:
        victim, programs = (kind, VICTIMS[kind]), "" if kind is Kind.ARCHIVE else "tree_worker"
        trashed = partial(_in_trash, kind=kind)
        made |= {
            f"throw away, {kind}": Protocol(Job.RETENTION, victim, partial(_throw_away, kind=kind)),
            f"purge, {kind}": Protocol(Job.RETENTION, victim, partial(_purge, kind=kind), trashed, programs, goes=True),
            f"bring back, {kind}": Protocol(Job.RETENTION, victim, partial(_bring_back, kind=kind), trashed, calls=3),
        }
    made["make an archive"] = Protocol(
        Job.ARCHIVE, (Kind.ARCHIVE, NEW_ARCHIVE), _archive, programs="archiver.packer", comes=True, calls=12
    )
    made["make a golden copy"] = Protocol(
        Job.ARCHIVE, (Kind.GOLDEN, NEW_GOLDEN), _golden, programs="tree_worker", comes=True, calls=10
    )
    made["complete a snapshot"] = Protocol(
        Job.SNAPSHOT, (Kind.SNAPSHOT, snapshot_name(NEXT)), _complete, _transferred, comes=True, calls=16
    )
    return made


PROTOCOLS: Final = _protocols()


def place_of(folder: HostFolder, kind: Kind, name: str) -> Path:
    """Where a restore point lies when it is one."""
    return folder.path / FOLDERS[kind] / name
