"""Moves what is kept of a host to another store: copies, compares, switches; the old drive is left as it is.

The log decides where a host lives. Until `HostMoved` is recorded nothing has changed, whatever lies on the new drive;
from then on nothing of the host is done on the old one any more. Nothing is deleted there, by nobody: the old points
stay until a person removes the folder.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from shared.adapters.clock import SystemClock
from shared.adapters.moving import MOVING, Look, Move
from shared.adapters.postgres import EventLog
from shared.adapters.restore_points import archives, golden_copies
from shared.adapters.store import HostFolder, Store
from shared.adapters.threads import in_thread
from shared.adapters.tree_compare import CopyDiffers
from shared.config import Settings
from shared.domain.errors import BackupManagerError, CalledOff, HostBusy, LogConflict, LogUnavailable
from shared.domain.events import HostMoved, Job, Kind, NewEvent
from shared.domain.host_state import CLOCKS_DIFFER, HostState, point_key
from shared.domain.ids import derived_id
from shared.domain.inventory import points_of
from shared.domain.names import HostName, StoreName, host_stream
from shared.domain.projection import evolve_host
from shared.domain.room import Need, why_no_room, why_running_out
from shared.domain.wording import printable
from shared.runtime.outbox import Outbox

TELL_SECONDS: Final = 1.0
ATTEMPTS: Final = 10


@dataclass(slots=True)
class MoveProgress:
    """How far a move is; counted anew for each stage."""

    stage: str = ""
    entries: int = 0
    moved_bytes: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def enter(self, stage: str) -> None:
        """Begin a stage."""
        self.stage, self.entries, self.moved_bytes = stage, 0, 0

    def look(self, moved_bytes: int) -> None:
        """Count an entry. Raises CalledOff when the move is to stop."""
        if self.stopped.is_set():
            raise CalledOff("an interruption; run it again to go on")
        self.entries += 1
        self.moved_bytes += moved_bytes


Tell = Callable[[MoveProgress], None]


@dataclass(frozen=True, slots=True)
class _Moving:
    settings: Settings
    events: EventLog
    host: HostName
    source: Store
    target: Store
    source_folder: HostFolder
    target_folder: HostFolder
    by: str
    tell: Tell

    def watch(self, progress: MoveProgress) -> None:
        """Tell how far it is. Raises BackupManagerError before it takes the last of the new drive from all others."""
        self.tell(progress)
        if reason := why_running_out(self.target.room()):
            raise BackupManagerError(reason, "Free some room on the new drive, then run it again: it goes on.")


async def move_host(
    settings: Settings, events: EventLog, host: HostName, target: StoreName, *, by: str, tell: Tell
) -> HostMoved | None:
    """Move a host to another store; None when it lives there already.

    Raises StoreRefused, HostBusy, LogUnavailable, CopyDiffers, CalledOff and OSError: then it lives where it lived, and
    the next try goes on with what was copied.
    """
    state = await _state(events, host)
    if not state.has_points:
        raise BackupManagerError(
            f"The log knows no restore points of {host}.", f'Just write store = "{target}" into [hosts.{host}].'
        )
    lives_on = state.kept_on or settings.store_of(host)
    with ExitStack() as stack:
        there = _opened(stack, settings, target)
        if lives_on == target:
            with there.folder(host) as folder:
                await in_thread(Move(folder, folder).finish)
            return None
        here = _opened(stack, settings, StoreName(lives_on))
        source, folder = stack.enter_context(here.folder(host)), stack.enter_context(there.folder(host))
        stack.enter_context(_locked(source, folder))
        moving = _Moving(settings, events, host, here, there, source, folder, by, tell)
        try:
            return await _move(moving)
        except OSError as error:
            where = f" at {printable(os.fsdecode(error.filename))}" if error.filename else ""
            raise BackupManagerError(
                f"The move stopped: {error.strerror}{where}. {host} lives on {lives_on} as before.",
                "Look after both drives (dmesg tells more), then run it again: it goes on where it was.",
            ) from error


def _opened(stack: ExitStack, settings: Settings, name: StoreName) -> Store:
    store = Store.open(settings.root_of(name), name)
    stack.callback(store.close)
    return store


@contextmanager
def _locked(*folders: HostFolder) -> Iterator[None]:
    """Every job of the host waits meanwhile, on both drives. Raises HostBusy."""
    with ExitStack() as stack:
        for folder in folders:
            for job in Job:
                try:
                    stack.enter_context(folder.locked(job))
                except HostBusy as error:
                    hint = f"Try again when it has ended, or call it off: `backup-manager cancel {folder.host}`."
                    raise HostBusy(error.message, hint) from error
        yield


async def _move(moving: _Moving) -> HostMoved:
    state = await _heard_state(moving)
    await in_thread(_refuse_incomplete, moving.source_folder, state)
    _refuse_full(moving, state)
    move = Move(moving.source_folder, moving.target_folder)
    await in_thread(move.begin, moving.source.identity.uuid)
    progress = MoveProgress()
    await _staged("Copying", progress, moving.watch, move.copy)
    try:
        await _staged("Comparing", progress, moving.tell, move.compare)
    except CopyDiffers:
        await in_thread(move.discard)
        raise
    for store in (moving.source, moving.target):
        await in_thread(store.check)
    await in_thread(move.place)
    await in_thread(moving.target_folder.point_links, SystemClock().now() + CLOCKS_DIFFER)
    fact = await _switch(moving, state)
    with suppress(OSError):  # it has moved, whatever becomes of this; the next call of the command finishes it
        await in_thread(move.finish)
    return fact


async def _staged(name: str, progress: MoveProgress, tell: Tell, work: Callable[[Look], int]) -> None:
    """Do a stage in a thread and tell how far it is; it stops at its next entry when we are cancelled."""
    progress.enter(name)
    doing = asyncio.ensure_future(in_thread(work, progress.look))
    try:
        while not doing.done():
            await asyncio.wait({doing}, timeout=TELL_SECONDS)
            tell(progress)
    except BaseException:
        progress.stopped.set()
        await asyncio.wait({doing})
        doing.exception()  # taken note of: we end for another reason
        raise
    doing.result()


async def _heard_state(moving: _Moving) -> HostState:
    """What the log knows when it has heard everything that the old drive has to tell. Raises LogUnavailable."""
    if not await Outbox(moving.source, moving.events, types=()).drain(moving.host):
        raise LogUnavailable(
            "The log has not heard everything from the old drive yet.",
            "Its services tell it while they run: try again then.",
        )
    return await _state(moving.events, moving.host)


async def _state(events: EventLog, host: HostName) -> HostState:
    state = HostState()
    for recorded in await events.read_stream(host_stream(host)):
        evolve_host(state, recorded)
    return state


def _refuse_incomplete(folder: HostFolder, state: HostState) -> None:
    """A point that only the log knows would be missed for ever on the new drive."""
    held = {
        *(point_key(Kind.SNAPSHOT, one.name) for one in folder.snapshots()),
        *(point_key(Kind.ARCHIVE, one.name) for one in archives(folder)),
        *(point_key(Kind.GOLDEN, one.name) for one in golden_copies(folder)),
    }
    if lost := sorted({point.key for point in points_of(state)} - held):
        raise BackupManagerError(
            f"{lost[0]} of {folder.host} is in the log and not on the drive ({len(lost)} in all).",
            "Run `backup-manager audit`; find it, or declare it lost. Nothing was moved.",
        )


def _refuse_full(moving: _Moving, state: HostState) -> None:
    if MOVING in os.listdir(moving.target_folder.descriptor):
        return  # part of it is there already: what is left cannot be told from here
    need = Need(state.used_bytes(), max((one.files for one in state.snapshots.values()), default=0), "by the log")
    if reason := why_no_room(moving.target.room(), need):
        raise BackupManagerError(f"{moving.host} does not fit there. {reason}", "Free some room on the new drive.")


async def _switch(moving: _Moving, state: HostState) -> HostMoved:
    """Record the move, unless what is known of the host changed since. Raises LogConflict and LogUnavailable."""
    points = points_of(state)
    fact = HostMoved(
        source=moving.source.identity.name, target=moving.target.identity.name, points=len(points), by=moving.by
    )
    known = ({point.key for point in points}, set(state.trash))
    for attempt in range(1, ATTEMPTS + 1):
        identity = derived_id("moved", moving.host, str(state.version))
        try:
            await moving.events.append(host_stream(moving.host), state.version, [NewEvent(identity, fact)])
        except LogConflict:
            # A wish was recorded meanwhile, for example: that changes nothing about what is kept.
            state = await _state(moving.events, moving.host)
            if attempt == ATTEMPTS or ({point.key for point in points_of(state)}, set(state.trash)) != known:
                raise
        else:
            return fact
    raise AssertionError("the last attempt returns or raises")
