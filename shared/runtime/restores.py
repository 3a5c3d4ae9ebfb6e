"""Asking for a restore and calling one off, for whoever does: checked once, then a fact in the host's stream.

The scheduler sees in the log that it waits and sends a restorer its tick; there is no message that could be lost.
"""

from __future__ import annotations

import secrets
from uuid import UUID

import msgspec

from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import Bus
from shared.adapters.postgres import EventLog
from shared.config import HostSettings, Settings
from shared.domain.errors import LogConflict
from shared.domain.events import NewEvent, RestoreCancelled, RestoreRequested
from shared.domain.host_state import HostState
from shared.domain.ids import derived_id, event_id, run_id
from shared.domain.messages import Cancel
from shared.domain.names import host_stream
from shared.domain.projection import evolve_host
from shared.domain.restore_request import (
    TO_FOLDER,
    TO_HOST,
    RestoreEnded,
    RestoreRefused,
    wanted_folder,
    wanted_paths,
    wanted_point,
)
from shared.domain.restore_state import RestoreState, open_restores
from shared.domain.schedule import trigger_slot

MOST_WAITING = 20
REQUESTED_STEP = 1
ATTEMPTS = 5


class RestoreWish(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asks for. `confirm` is the host's name, typed, and only needed to go over the original."""

    point: str
    paths: tuple[str, ...] = ()
    target: str = TO_FOLDER
    folder: str = ""
    over_original: bool = False
    confirm: str = ""


def checked(wish: RestoreWish, host: HostSettings, state: HostState, settings: Settings) -> RestoreWish:
    """The wish with its point and paths as they are called, when it may be granted. Raises RestoreRefused."""
    point = wanted_point(state, wish.point)
    if wish.target not in {TO_FOLDER, TO_HOST}:
        raise RestoreRefused(f"{wish.target[:100]!r} is no target.", f"Allowed: {TO_FOLDER} and {TO_HOST}.")
    if wish.target == TO_HOST and host.transport == "local":
        raise RestoreRefused(f"{host.name} is this machine.", "Restore to a folder of it.")
    if wish.target == TO_HOST and wish.folder:
        raise RestoreRefused("A folder was named for a restore to the host.", "It goes beside the original.")
    if wish.over_original and (wish.target != TO_HOST or wish.confirm != host.name):
        raise RestoreRefused(
            f"Nothing goes over the original of {host.name} unless its name is given to confirm it.",
            f"Give confirm={host.name} and the target {TO_HOST}, or restore beside the original.",
        )
    if len(open_restores(state.restores)) >= MOST_WAITING:
        raise RestoreRefused(f"{MOST_WAITING} restores of {host.name} wait already.", "Wait, or cancel some.")
    folder = wanted_folder(wish.folder, settings.restored_below()) if wish.target == TO_FOLDER else ""
    return msgspec.structs.replace(
        wish, point=f"{point.kind}/{point.name}", paths=wanted_paths(wish.paths), folder=folder
    )


async def ask(log: EventLog, host: HostSettings, state: HostState, wish: RestoreWish, by: str) -> UUID:
    """Record a wish that was checked; returns its id. Raises LogUnavailable."""
    clock = SystemClock()
    restore = run_id(clock.unix_ms(), secrets.randbits(58))
    point = wanted_point(state, wish.point)
    fact = RestoreRequested(
        restore=restore,
        slot=trigger_slot(clock.now()),
        kind=point.kind,
        point=point.name,
        target=wish.target,
        paths=wish.paths,
        folder=wish.folder,
        over_original=wish.over_original,
        by=by,
    )
    await log.append(host_stream(host.name), None, [NewEvent(event_id(restore, REQUESTED_STEP), fact)])
    return restore


async def call_off(log: EventLog, bus: Bus, host: HostSettings, restore: UUID, by: str) -> None:
    """Call a restore off: one that waits is cancelled at once, one under way is told.

    Raises RestoreRefused when it has ended, LogUnavailable and BusUnavailable.
    """
    for _ in range(ATTEMPTS):
        state = HostState()
        for recorded in await log.read_stream(host_stream(host.name)):
            evolve_host(state, recorded)
        one = state.restores.get(str(restore))
        if one is None or not one.is_open:
            raise RestoreEnded(f"The restore {restore} is not under way.", "Nothing was changed.")
        if one.outcome == "running":
            await bus.publish_cancel(Cancel(host.name, by, str(restore)))
            return
        try:
            await _cancel_waiting(log, host, state.version, one, by)
        except LogConflict:
            continue
        return
    await bus.publish_cancel(Cancel(host.name, by, str(restore)))


async def _cancel_waiting(log: EventLog, host: HostSettings, version: int, one: RestoreState, by: str) -> None:
    fact = RestoreCancelled(slot=one.slot, restore=one.restore, by=by)
    await log.append(host_stream(host.name), version, [NewEvent(cancel_id(one.restore), fact)])


def cancel_id(restore: UUID) -> UUID:
    """The id of the event that a request was called off before it began: whoever says it, it is said once."""
    return derived_id("restore-cancelled", str(restore))
