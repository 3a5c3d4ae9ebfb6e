"""`trigger`: ask for runs now."""

from __future__ import annotations

import asyncio
import getpass
import os
from datetime import timedelta
from typing import Final

import rich_click as click
from click.exceptions import Exit

from services.cli import session
from services.cli.output import json_option, print_json, say
from shared.adapters.bus_layout import TRIGGERED_JOBS
from shared.adapters.postgres import EventLog
from shared.config import Settings
from shared.domain.errors import BackupManagerError
from shared.domain.events import (
    AnyEvent,
    ArchiveCancelled,
    ArchiveCompleted,
    ArchiveFailed,
    ArchiveProgressed,
    ArchiveStarted,
    BackupRequested,
    DryRunCompleted,
    GoldenCompleted,
    GoldenFailed,
    HostFoundOffline,
    Job,
    PointPurged,
    PointTrashed,
    Quality,
    Recorded,
    RequestRefused,
    RetentionCancelled,
    RetentionCompleted,
    RetentionFailed,
    RetentionStarted,
    SlotSkipped,
    SnapshotCancelled,
    SnapshotCompleted,
    SnapshotFailed,
    SnapshotProgressed,
    SnapshotStarted,
)
from shared.domain.messages import Trigger
from shared.domain.names import parse_host_name
from shared.domain.words import in_words

GRANT_TIMEOUT_SECONDS = 30.0

_OF_ALL = (DryRunCompleted, RequestRefused, SlotSkipped)
OUTCOMES: Final[dict[Job, tuple[type, ...]]] = {
    Job.SNAPSHOT: (*_OF_ALL, SnapshotCompleted, SnapshotFailed, SnapshotCancelled, HostFoundOffline),
    Job.ARCHIVE: (*_OF_ALL, ArchiveCompleted, ArchiveFailed, ArchiveCancelled),
    Job.RETENTION: (*_OF_ALL, RetentionCompleted, RetentionFailed, RetentionCancelled),
}
"""What ends a run of each job; a failure only when it is final."""

ON_THE_WAY: Final[dict[Job, tuple[type, ...]]] = {
    Job.SNAPSHOT: (SnapshotStarted, SnapshotProgressed),
    Job.ARCHIVE: (ArchiveStarted, ArchiveProgressed, GoldenCompleted, GoldenFailed),
    Job.RETENTION: (RetentionStarted, PointTrashed, PointPurged),
}
"""What is told while one waits."""


@click.command()
@click.argument("hosts", nargs=-1)
@click.option("--job", type=click.Choice([str(job) for job in TRIGGERED_JOBS]), default="snapshot", show_default=True)
@click.option("--dry-run", is_flag=True, help="Only try whether it would work; nothing is written.")
@click.option("--wait", is_flag=True, help="Wait for the outcome; exit 1 unless every host went well.")
@json_option
def trigger(*, hosts: tuple[str, ...], job: str, dry_run: bool, wait: bool, as_json: bool) -> None:
    """Back up HOSTS now; all of them when none is named."""
    settings = session.settings_here()
    names = [parse_host_name(host) for host in hosts]
    for name in names:
        if settings.host(name) is None:
            raise click.UsageError(f"There is no host {name!r}. `backup-manager hosts` lists them.")
    if not settings.hosts:
        raise click.UsageError("There are no hosts yet. Add them to HOSTS in .env.")
    wish = Trigger(tuple(names) or None, Job(job), dry_run, by=f"{getpass.getuser()}@{os.uname().nodename}")
    wanted: set[str] = set(names or [host.name for host in settings.hosts])
    good = session.run(_trigger(settings, wish, wanted, wait=wait, as_json=as_json))
    if not good:
        raise Exit(1)


async def _trigger(settings: Settings, wish: Trigger, hosts: set[str], *, wait: bool, as_json: bool) -> bool:
    async with session.event_log(settings) as log, session.bus(settings) as bus:
        start = await log.head()
        number = await bus.publish_trigger(wish)
        if not wait:
            if as_json:
                print_json({"wish": number, "hosts": sorted(hosts)})
            else:
                say(f"Asked for a {wish.job} of {', '.join(sorted(hosts))}. `backup-manager status` shows how it goes.")
            return True
        outcomes = await follow_outcomes(log, start, hosts, job=wish.job, quiet=as_json)
    if as_json:
        print_json(outcomes)
    return all(_went_well(outcome) for outcome in outcomes.values())


async def follow_outcomes(
    log: EventLog, start: int, hosts: set[str], *, job: Job = Job.SNAPSHOT, quiet: bool
) -> dict[str, AnyEvent]:
    """Wait for the outcome of what was asked for after a position, telling what happens."""
    outcomes: dict[str, AnyEvent] = {}
    granted: set[str] = set()
    async with asyncio.timeout(None) as patience:
        loop = asyncio.get_running_loop()
        patience.reschedule(loop.time() + GRANT_TIMEOUT_SECONDS)
        try:
            async for page in log.follow(start):
                for recorded in page:
                    host = recorded.stream.removeprefix("host-")
                    if host in hosts:
                        _take(recorded, host, granted, outcomes, job=job, quiet=quiet)
                if granted >= hosts:
                    patience.reschedule(None)
                if outcomes.keys() >= hosts:
                    break
        except TimeoutError as error:
            missing = ", ".join(sorted(hosts - granted))
            raise BackupManagerError(
                f"Nobody took the wish for {missing} within {timedelta(seconds=GRANT_TIMEOUT_SECONDS)}.",
                "Is the scheduler running? The wish stays on the bus for a day.",
            ) from error
    return outcomes


def _take(
    recorded: Recorded, host: str, granted: set[str], outcomes: dict[str, AnyEvent], *, job: Job, quiet: bool
) -> None:
    event = recorded.event
    if isinstance(event, BackupRequested):
        granted.add(host)
    elif isinstance(event, OUTCOMES[job]) and getattr(event, "job", job) is job:
        if getattr(event, "final", True) and host in granted:
            outcomes[host] = event
    elif not isinstance(event, ON_THE_WAY[job]):
        return
    if not quiet:
        say(f"{host}: {in_words(event)}")


def _went_well(event: AnyEvent) -> bool:
    match event:
        case SnapshotCompleted(quality=quality):
            return quality is Quality.COMPLETE
        case DryRunCompleted(ok=ok):
            return ok
        case ArchiveCompleted():
            return True
        case RetentionCompleted(refused=refused):
            return not refused
        case _:
            return False
