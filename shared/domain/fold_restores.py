"""How restores change what is known of a host."""

from __future__ import annotations

from uuid import UUID

from shared.domain.events_restore import (
    RestoreAbandoned,
    RestoreCancelled,
    RestoreCompleted,
    RestoreFailed,
    RestoreProgressed,
    RestoreRequested,
    RestoreStarted,
)
from shared.domain.host_state import HostState
from shared.domain.restore_state import KEPT_RESTORES, RestoreState


def evolve_restores(host: HostState, event: object, recorded_us: int) -> bool:
    """Take an event of a restore into the state; False when it is none."""
    match event:
        case RestoreRequested():
            _requested(host, event, recorded_us)
        case RestoreStarted():
            _started(host, event, recorded_us)
        case RestoreProgressed():
            _progressed(host, event)
        case RestoreCompleted():
            _completed(host, event, recorded_us)
        case _:
            return _evolve_stopped(host, event, recorded_us)
    return True


def _evolve_stopped(host: HostState, event: object, recorded_us: int) -> bool:
    match event:
        case RestoreFailed():
            if one := _of_run(host, event.restore, event.run):
                one.outcome = "failed" if event.final else "waiting"
                one.ended_us = recorded_us if event.final else None
                one.message, one.hint, one.left = event.message, event.hint, event.left
        case RestoreCancelled():
            if (one := host.restores.get(str(event.restore))) and one.is_open:
                one.outcome, one.ended_us, one.left = "cancelled", recorded_us, event.left
                one.message = f"Called off by {event.by}." if event.by else "Called off."
        case RestoreAbandoned():
            if one := _of_run(host, event.restore, event.run):
                one.outcome = "waiting"
        case _:
            return False
    return True


def _requested(host: HostState, event: RestoreRequested, recorded_us: int) -> None:
    host.restores[str(event.restore)] = RestoreState(
        restore=event.restore,
        slot=event.slot,
        kind=event.kind,
        point=event.point,
        target=event.target,
        paths=event.paths,
        folder=event.folder,
        over_original=event.over_original,
        by=event.by,
        requested_us=recorded_us,
    )
    ended = [key for key, one in host.restores.items() if not one.is_open]
    for key in ended[: max(0, len(host.restores) - KEPT_RESTORES)]:
        del host.restores[key]


def _started(host: HostState, event: RestoreStarted, recorded_us: int) -> None:
    if one := host.restores.get(str(event.restore)):
        one.outcome, one.runs, one.started_us = "running", (*one.runs, event.run), recorded_us
        one.stage, one.percent, one.eta_seconds = "transfer", 0, None


def _of_run(host: HostState, restore: UUID, run: UUID) -> RestoreState | None:
    """The restore, when it is under way in this run."""
    one = host.restores.get(str(restore))
    return one if one is not None and one.outcome == "running" and one.runs[-1].int == run.int else None


def _progressed(host: HostState, event: RestoreProgressed) -> None:
    if one := _of_run(host, event.restore, event.run):
        one.stage, one.files, one.transferred_bytes = event.stage, event.files, event.transferred_bytes
        one.bytes_per_second, one.percent = event.bytes_per_second, event.percent
        one.eta_seconds = event.eta_seconds


def _completed(host: HostState, event: RestoreCompleted, recorded_us: int) -> None:
    if one := _of_run(host, event.restore, event.run):
        one.outcome, one.ended_us, one.percent, one.eta_seconds = "completed", recorded_us, 100, None
        one.files, one.transferred_bytes, one.verified_files = event.files, event.size_bytes, event.verified_files
        one.places, one.left = event.places, ()
        one.message, one.hint = " ".join(event.warnings), ""
