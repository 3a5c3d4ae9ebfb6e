"""What the folds of all jobs do alike: runs that go on and end, slots that are settled."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

from shared.domain.event import Job
from shared.domain.events_archive import ArchiveProgressed
from shared.domain.events_snapshot import SnapshotProgressed
from shared.domain.host_state import HostState, RunState

REMEMBERED: Final = 32
"""Settled slots of a job: more than a clock that is ahead settles before somebody notices, with hourly slots."""


def still_open(run: RunState | None, next_run: UUID, left_open: dict[UUID, datetime]) -> None:
    """Note that a run was still open when the next one began: its worker died while the log was away."""
    if run is not None and run.outcome == "running" and run.run != next_run:
        left_open[run.run] = run.slot


def progress(
    run: RunState | None, of: UUID, event: SnapshotProgressed | ArchiveProgressed, files: int, moved_bytes: int
) -> None:
    """Note how far the run is, if it is this one."""
    if run is not None and run.run.int == of.int:
        run.files = files
        run.transferred_bytes = moved_bytes
        run.bytes_per_second = event.bytes_per_second
        run.percent = event.percent
        run.eta_seconds = event.eta_seconds


def end_run(
    run: RunState | None, of: UUID, outcome: str, ended_us: int, *, message: str = "", hint: str = ""
) -> RunState | None:
    """Note how the run ended, if it is this one; returns it."""
    if run is None or run.run.int != of.int:
        return None
    run.outcome = outcome
    run.ended_us = ended_us
    run.message = message
    run.hint = hint
    return run


def settle(host: HostState, job: Job, slot: datetime) -> None:
    """Nothing is to be done for this slot any more. A restore has no slots that pass.

    The slots are remembered in the order in which they were settled, not by their dates: those that a clock settled
    that was ahead must not push out what is settled after it.
    """
    if job is Job.RESTORE:
        return
    slots = host.settled_slots.setdefault(job, [])
    if slot not in slots:
        slots.append(slot)
        del slots[:-REMEMBERED]


def skip(host: HostState, job: Job, slot: datetime, recorded_us: int) -> None:
    """A slot passed without what its job makes; a run of it that made something else meanwhile has ended well."""
    run = host.run_of(job)
    if run is not None and run.slot == slot and run.outcome == "running":
        end_run(run, run.run, "completed", recorded_us)
    settle(host, job, slot)
