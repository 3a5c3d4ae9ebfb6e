"""`hosts move`: what is kept of a host goes to another store."""

from __future__ import annotations

import getpass
import os

import rich_click as click

from services.cli import session
from services.cli.output import console, say
from shared.config import Settings
from shared.domain.events import HostMoved
from shared.domain.names import HostName, StoreName, parse_host_name, parse_store_name
from shared.domain.wording import size
from shared.runtime.host_move import MoveProgress, move_host


@click.command("move")
@click.argument("host")
@click.argument("store")
def move(*, host: str, store: str) -> None:
    """Copy everything that is kept of HOST to STORE, compare it byte for byte, then let HOST live there.

    Both drives must be mounted on this machine. All jobs of HOST wait meanwhile. Stopped anywhere, it goes on when it
    is run again. The old drive keeps its copy until somebody removes that folder by hand.
    """
    settings, name, target = session.settings_here(), parse_host_name(host), parse_store_name(store)
    settings.root_of(target)
    done = session.run(_move(settings, name, target))
    if done is None:
        say(f"{name} lives on {target} already.")
    else:
        say(f"All {done.points:,} restore points of {name} are on {target}, and were compared byte for byte.")
        say(f"{settings.root_of(done.source) / name} stays as it is; remove it by hand when you are sure.")
    if settings.store_of(name) != target:
        say(f'Now write store = "{target}" into [hosts.{name}] of backup.toml on every machine and start the services')
        say(f"again. Until then nothing is done for {name}.")


async def _move(settings: Settings, host: HostName, target: StoreName) -> HostMoved | None:
    by = f"{getpass.getuser()}@{os.uname().nodename}"
    with console().status("") as status:

        def tell(progress: MoveProgress) -> None:
            status.update(f"{progress.stage}: {progress.entries:,} entries, {size(progress.moved_bytes)}")

        async with session.event_log(settings) as log:
            return await move_host(settings, log, host, target, by=by, tell=tell)
