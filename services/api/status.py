"""`GET /api/status`: where each host is in its pipeline, computed from the state. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from shared.domain.event import Job
from shared.domain.host_state import HostState, RunState
from shared.domain.projection import State

STAGES: Final = ("rsync", "hourly", "tar", "monthly", "cleanup")
STAGE_OF: Final = {Job.SNAPSHOT: "rsync", Job.ARCHIVE: "tar", Job.RETENTION: "cleanup"}
OUTCOMES: Final = {"completed": "ok", "failed": "failed", "cancelled": "cancelled", "abandoned": "failed"}


class Progress(msgspec.Struct, frozen=True):
    """How far a running stage is."""

    files: int
    size_bytes: int
    bytes_per_second: int
    percent: int
    eta_seconds: int | None


class HostStatus(msgspec.Struct, frozen=True):
    """Where a host is. `finished` is absent while something runs; `stage_num` counts from 1 to `stage_total`."""

    status: str
    stage: str
    stage_num: int
    stage_total: int
    started: datetime | None
    hourly: Progress | None
    tar: Progress | None
    snapshot: str | None
    archives_removed: int
    message: str = ""
    finished: datetime | UnsetType | None = UNSET


class Status(msgspec.Struct, frozen=True):
    """The whole system."""

    job_running: bool
    hosts: dict[str, HostStatus]


def status_of(state: State, names: list[str]) -> Status:
    """The status of these hosts."""
    hosts = {name: host_status(state.hosts.get(name, HostState())) for name in names}
    return Status(any(host.status == "running" for host in hosts.values()), hosts)


def host_status(host: HostState) -> HostStatus:
    """The status of one host."""
    runs = {job: run for job in STAGE_OF if (run := host.run_of(job)) is not None}
    running = [job for job, run in runs.items() if run.outcome == "running"]
    newest = max(runs.values(), key=lambda run: run.started_us, default=None)
    found = host.newest()
    status = HostStatus(
        status="running" if running else _outcome(host, newest),
        stage=STAGE_OF[running[0]] if running else "done",
        stage_num=STAGES.index(STAGE_OF[running[0]]) + 1 if running else len(STAGES),
        stage_total=len(STAGES),
        started=newest.started_at if newest else None,
        hourly=_progress(runs.get(Job.SNAPSHOT)),
        tar=_progress(runs.get(Job.ARCHIVE)),
        snapshot=found.name if found else None,
        archives_removed=host.last_retention.removed if host.last_retention else 0,
        message=f"{newest.message} {newest.hint}".strip() if newest else "",
    )
    if running:
        return status
    return msgspec.structs.replace(status, finished=newest.ended_at if newest else None)


def _outcome(host: HostState, newest: RunState | None) -> str:
    if newest is None:
        return "never" if host.dry_run is None else _dry_run(host)
    return OUTCOMES.get(newest.outcome, newest.outcome)


def _dry_run(host: HostState) -> str:
    return "dry_run_ok" if host.dry_run is not None and host.dry_run.ok else "dry_run"


def _progress(run: RunState | None) -> Progress | None:
    if run is None or run.outcome != "running":
        return None
    return Progress(run.files, run.transferred_bytes, run.bytes_per_second, run.percent, run.eta_seconds)
