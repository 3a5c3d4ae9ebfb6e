"""How the events of the heavy pipeline change what is known of a host."""

from __future__ import annotations

from shared.domain.event import Job
from shared.domain.events_archive import (
    ArchiveAbandoned,
    ArchiveCancelled,
    ArchiveCompleted,
    ArchiveDiscovered,
    ArchiveFailed,
    ArchiveProgressed,
    ArchiveStarted,
    GoldenCompleted,
    GoldenDiscovered,
    GoldenFailed,
)
from shared.domain.fold_runs import end_run, progress, settle, still_open
from shared.domain.host_state import ArchiveState, GoldenState, HostState, RunState


def evolve_archives(host: HostState, event: object, recorded_us: int) -> bool:
    """Take an event of the heavy pipeline into the state; False when it is none."""
    match event:
        case ArchiveProgressed():
            progress(host.archive_run, event.run, event, event.members, event.read_bytes)
        case ArchiveStarted():
            still_open(host.archive_run, event.run, host.archives_left_open)
            host.archive_run = RunState(event.run, event.slot, recorded_us, event.worker, event.attempt)
        case ArchiveCompleted():
            _archived(host, event, recorded_us)
        case ArchiveFailed():
            host.archives_left_open.pop(event.run, None)
            end_run(host.archive_run, event.run, "failed", recorded_us, message=event.message, hint=event.hint)
            if event.final:
                settle(host, Job.ARCHIVE, event.slot)
        case ArchiveCancelled():
            host.archives_left_open.pop(event.run, None)
            end_run(host.archive_run, event.run, "cancelled", recorded_us, message=event.by)
            settle(host, Job.ARCHIVE, event.slot)
        case ArchiveAbandoned():
            host.archives_left_open.pop(event.run, None)
            end_run(host.archive_run, event.run, "abandoned", recorded_us)
        case ArchiveDiscovered():
            host.archives[event.archive] = ArchiveState(
                event.archive, event.slot, event.snapshot, event.members, event.size_bytes, event.sha256, event.run
            )
        case _:
            return _evolve_golden(host, event, recorded_us)
    return True


def _evolve_golden(host: HostState, event: object, recorded_us: int) -> bool:
    match event:
        case GoldenCompleted():
            host.golden[event.golden] = GoldenState(
                event.golden, event.slot, event.snapshot, event.files, event.size_bytes, event.run, recorded_us
            )
            host.last_golden_problem = ""
        case GoldenFailed():
            host.last_golden_problem = f"{event.message} {event.hint}".strip()
        case GoldenDiscovered():
            host.golden[event.golden] = GoldenState(
                event.golden, event.slot, event.snapshot, event.files, event.size_bytes, event.run
            )
        case _:
            return False
    return True


def _archived(host: HostState, event: ArchiveCompleted, recorded_us: int) -> None:
    host.archives_left_open.pop(event.run, None)
    run = end_run(host.archive_run, event.run, "completed", recorded_us)
    if run is not None:
        run.files = event.members
        run.transferred_bytes = event.source_bytes
        run.percent = 100
        run.eta_seconds = None
    host.archives[event.archive] = ArchiveState(
        event.archive,
        event.slot,
        event.snapshot,
        event.members,
        event.size_bytes,
        event.sha256,
        event.run,
        recorded_us,
    )
    settle(host, Job.ARCHIVE, event.slot)
