"""How a host is doing, by what is known of it and by what was expected of it. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from shared.config.settings import Settings
from shared.domain.host_state import HostState
from shared.domain.schedule import next_slot
from shared.domain.wording import duration, size

OVERDUE_FACTOR: Final = 1.25
WORST_FIRST: Final = ("failed", "overdue", "on hold", "offline", "never backed up", "running", "ok")


def condition(settings: Settings, name: str, host: HostState, now: datetime) -> str:
    """One word for how a host is doing."""
    outcome, newest = host.run.outcome if host.run else "", host.newest()
    configured = settings.host(name)
    hours = configured.snapshot_interval_hours if configured else settings.snapshot_interval_hours
    overdue = newest is not None and now - newest.slot > timedelta(hours=hours) * OVERDUE_FACTOR
    conditions = {
        "running": outcome == "running",
        "failed": outcome == "failed",
        "on hold": host.hold_reason != "",
        "offline": host.offline_since is not None,
        "never backed up": newest is None,
        "overdue": overdue,
    }
    return next((word for word, holds in conditions.items() if holds), "ok")


def detail(settings: Settings, name: str, host: HostState, word: str, now: datetime) -> str:
    """What a person needs to know next."""
    run = host.run
    if word == "running" and run is not None:
        eta = f", {duration(run.eta_seconds)} left" if run.eta_seconds else ""
        return f"{run.files:,} files, {size(run.transferred_bytes)} at {size(run.bytes_per_second)}/s{eta}"
    if word == "failed" and run is not None:
        return f"{run.message} {run.hint}".strip()
    if word == "on hold":
        return f"{host.hold_reason} If all is well: `backup-manager hosts release {name} --reason ...`."
    if word == "offline":
        seconds = (now - host.offline_since).total_seconds() if host.offline_since else 0
        return f"for {duration(seconds)}: {host.offline_reason} `trigger` tries again at once."
    configured = settings.host(name)
    if configured is None:
        return "not in the settings any more"
    return f"next {next_slot(configured.snapshot_interval_hours, now):%H:%M} UTC"


def notes_on(name: str, host: HostState) -> list[str]:
    """What else a person should know of a host's archives, golden copies and retention, the worst first."""
    notes = []
    if host.last_retention is not None and host.last_retention.refused:
        notes.append(f"nothing is removed: {host.last_retention.refused[0]} See `backup-manager plan {name}`.")
    for job, run in (("archive", host.archive_run), ("retention", host.retention_run)):
        if run is not None and run.outcome == "failed":
            notes.append(f"the last {job} failed: {run.message} {run.hint}".strip())
        if run is not None and run.outcome == "running":
            notes.append(f"{job} under way: {run.percent} %, {size(run.transferred_bytes)} read.")
    if host.last_golden_problem:
        notes.append(f"the golden copy failed: {host.last_golden_problem}")
    return notes
