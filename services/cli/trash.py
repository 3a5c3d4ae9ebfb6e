"""`trash` and `undelete`: what was removed can be brought back until it is purged."""

from __future__ import annotations

import asyncio
import getpass
import os
from contextlib import closing
from datetime import timedelta

import rich_click as click

from services.cli import session
from services.cli.output import json_option, print_json, say, table
from services.retention.recovery import undeleted_event
from shared.adapters.clock import SystemClock
from shared.adapters.store import HostFolder, Store
from shared.adapters.trash import Trashed, bring_back, contents
from shared.config import Settings
from shared.domain.errors import BackupManagerError
from shared.domain.events import Job
from shared.domain.host_state import CLOCKS_DIFFER, HostState, TrashedPoint
from shared.domain.names import HostName, StoreName, host_stream, parse_host_name
from shared.domain.projection import evolve_host
from shared.domain.wording import ago, duration


@click.command()
@click.argument("host")
@json_option
def trash(*, host: str, as_json: bool) -> None:
    """What lies in the trash of HOST, and when it is purged."""
    settings = session.settings_here()
    found = session.run(_trash(settings, parse_host_name(host)))
    if as_json:
        print_json(found)
        return
    now, grace = session.now(), timedelta(hours=settings.trash_hours)
    rows = [
        [f"{lying.kind}/{lying.point.name}", ago(lying.trashed_at, now), _purged_in(lying.trashed_at + grace - now)]
        for lying in found
    ]
    table(["RESTORE POINT", "REMOVED", "PURGED"], rows, empty=f"The trash of {host} is empty.")


def _purged_in(left: timedelta) -> str:
    return f"in {duration(left.total_seconds())}" if left > timedelta() else "by the next retention run"


async def _trash(settings: Settings, host: HostName) -> list[TrashedPoint]:
    async with session.event_log(settings) as log:
        state = (await session.state_of(log)).hosts.get(host, HostState())
    return sorted(state.trash.values(), key=lambda lying: lying.trashed_us)


@click.command()
@click.argument("host")
@click.argument("point")
def undelete(*, host: str, point: str) -> None:
    """Bring POINT of HOST back from the trash: snapshot/2026-03-06_0800 or just 2026-03-06_0800.

    Retention then leaves it alone for 30 days.
    """
    settings = session.settings_here()
    brought = session.run(_undelete(settings, parse_host_name(host), point))
    say(f"{brought} is back, and is kept for 30 days at least.")


async def _undelete(settings: Settings, host: HostName, wanted: str) -> str:
    async with session.event_log(settings) as log:
        state = HostState()
        for recorded in await log.read_stream(host_stream(host)):
            evolve_host(state, recorded)
        kept_on = StoreName(state.kept_on or settings.store_of(host))
        with closing(Store.open(settings.root_of(kept_on), kept_on)) as store:
            with store.folder(host) as folder, folder.locked(Job.RETENTION):
                found = await asyncio.to_thread(_find, folder, wanted)
                await asyncio.to_thread(bring_back, folder, found)
                await asyncio.to_thread(folder.point_links, SystemClock().now() + CLOCKS_DIFFER)
            told = undeleted_event(host, found, f"{getpass.getuser()}@{os.uname().nodename}")
            await log.append(host_stream(host), None, [told])
    return found.key


def _find(folder: HostFolder, wanted: str) -> Trashed:
    lying = contents(folder)
    found = [trashed for trashed in lying if wanted in {trashed.key, trashed.name}]
    if not found:
        there = ", ".join(trashed.key for trashed in lying[:5]) or "nothing"
        raise BackupManagerError(f"{wanted!r} is not in the trash of {folder.host}.", f"There: {there}.")
    if len({trashed.key for trashed in found}) > 1:
        raise BackupManagerError(f"{wanted!r} could be {' or '.join(one.key for one in found)}.", "Say which.")
    return found[-1]
