"""`archives` and `golden`: the restore points besides the snapshots."""

from __future__ import annotations

import rich_click as click

from services.cli import session
from services.cli.output import json_option, print_json, say, table
from shared.config import Settings
from shared.domain.host_state import HostState
from shared.domain.names import HostName, parse_host_name
from shared.domain.wording import ago, size


@click.command()
@click.argument("host")
@json_option
def archives(*, host: str, as_json: bool) -> None:
    """The archives of HOST, oldest first."""
    settings = session.settings_here()
    name = parse_host_name(host)
    found = sorted(session.run(_known(settings, name)).archives.values(), key=lambda archive: archive.stands_for)
    if as_json:
        print_json(found)
        return
    now = session.now()
    rows = [
        [
            archive.name,
            ago(archive.stands_for, now),
            f"{archive.members:,}",
            size(archive.size_bytes),
            archive.sha256[:16],
        ]
        for archive in found
    ]
    table(["ARCHIVE", "AGE", ">ENTRIES", ">SIZE", "SHA-256"], rows, empty=f"{host} has no archive yet.")
    if found:
        say(f"They lie in {settings.folder_of(name) / 'archives'}; `sha256sum -c` and `tar -xzf` need nothing else.")


@click.command()
@click.argument("host")
@json_option
def golden(*, host: str, as_json: bool) -> None:
    """The golden copies of HOST, oldest first."""
    settings = session.settings_here()
    name = parse_host_name(host)
    found = sorted(session.run(_known(settings, name)).golden.values(), key=lambda copy: copy.name)
    if as_json:
        print_json(found)
        return
    rows = [[copy.name, copy.snapshot, f"{copy.files:,}", size(copy.size_bytes)] for copy in found]
    table(["MONTH", "COPY OF", ">FILES", ">SIZE"], rows, empty=f"{host} has no golden copy yet.")


async def _known(settings: Settings, host: HostName) -> HostState:
    async with session.event_log(settings) as log:
        state = await session.state_of(log)
    if host not in state.hosts and settings.host(host) is None:
        raise click.UsageError(f"There is no host {host!r}. `backup-manager hosts` lists them.")
    return state.hosts.get(host, HostState())
