"""Runs as a table: each is told by the event that ended it, or by the state while it goes on. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from shared.domain.event import Event, Job
from shared.domain.events import Recorded
from shared.domain.host_state import EPOCH, RunState, moment_of
from shared.domain.names import HOST_STREAM_PREFIX
from shared.domain.projection import State
from shared.domain.tally import OUTCOME_OF


class Run(msgspec.Struct, frozen=True):
    """One execution of a job. `ended` and `duration_seconds` are null while it runs; `position` is its last event's."""

    run: UUID
    host: str
    job: Job
    slot: datetime
    outcome: str
    started: datetime
    ended: datetime | None
    duration_seconds: float | None
    message: str = ""
    files: int = 0
    size_bytes: int = 0
    position: int = 0


def types_of(job: Job | None, outcome: str | None) -> tuple[type[Event], ...]:
    """The events that end a run of this job in this way; None is any."""
    return tuple(
        kind
        for kind, (its_job, its_outcome) in OUTCOME_OF.items()
        if job in {None, its_job} and outcome in {None, its_outcome}
    )


def ended_run(recorded: Recorded) -> Run:
    """The run that an event ended."""
    job, outcome = OUTCOME_OF[type(recorded.event)]
    told: dict[str, Any] = msgspec.structs.asdict(recorded.event)
    run = told["run"] or told["restore"]  # a restore may be called off before any run of it began
    started, ended = began(run), moment_of(recorded.recorded_us)
    return Run(
        run,
        recorded.stream.removeprefix(HOST_STREAM_PREFIX),
        job,
        told.get("slot", started),
        outcome,
        started,
        ended,
        max(0.0, (ended - started).total_seconds()),
        f"{told.get('message', '')} {told.get('hint', '')}".strip() or _by(told),
        int(told.get("files", told.get("members", 0))),
        int(told.get("transferred_bytes", told.get("size_bytes", 0))),
        recorded.position,
    )


def began(run: UUID) -> datetime:
    """When a run got its id: the first 48 bits of a UUIDv7 are milliseconds since 1970 (RFC 9562, section 5.7)."""
    return EPOCH + timedelta(milliseconds=run.int >> 80)


def running(state: State, host: str | None, job: Job | None) -> Iterator[Run]:
    """What goes on now, or went on at the moment of the state."""
    for name, known in sorted(state.hosts.items()):
        for its_job in Job:
            run = known.run_of(its_job)
            if run is None or run.outcome != "running" or host not in {None, name} or job not in {None, its_job}:
                continue
            yield _going_on(name, its_job, run)


def _going_on(name: str, job: Job, run: RunState) -> Run:
    return Run(
        run.run,
        name,
        job,
        run.slot,
        "running",
        run.started_at,
        None,
        None,
        f"{run.percent} %",
        run.files,
        run.transferred_bytes,
    )


def _by(told: dict[str, Any]) -> str:
    return f"by {told['by']}" if told.get("by") else ""
