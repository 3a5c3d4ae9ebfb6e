"""Tries everything a snapshot needs, without writing into any host's tree."""

from __future__ import annotations

import re
from typing import Final

from services.snapshotter.connection import Connection, connected
from services.snapshotter.rsync import Ability
from shared.config import HostSettings, Settings
from shared.domain.errors import HostUnreachable, RunFailed

MIN_VERSION: Final = (3, 2, 0)
_VERSION: Final = re.compile(rb"rsync +version +v?(\d+)\.(\d+)\.(\d+)")


async def try_host(host: HostSettings, settings: Settings, ability: Ability) -> tuple[bool, list[str]]:
    """Whether a snapshot of this host would work, and what was found, in sentences, worst first."""
    good: list[str] = []
    bad: list[str] = []
    try:
        async with connected(host, settings) as connection:
            good.append(f"{host.name} answers and accepts our key." if connection.sockets else "This machine itself.")
            await _try_rsync(connection, good, bad)
            for path in host.paths:
                await _try_path(connection, path.replace("/./", "/"), good, bad)
    except (HostUnreachable, RunFailed) as error:
        bad.append(f"{error.message} {error.hint}".strip())
    if not ability.confined:
        good.append("The receiver is not confined here (bubblewrap does not work); symbolic links are kept munged.")
    return not bad, [*bad, *good]


async def _try_rsync(connection: Connection, good: list[str], bad: list[str]) -> None:
    shown = await connection.remote("rsync", "--version")
    match = _VERSION.search(shown.stdout)
    if match is None:
        bad.append("There is no rsync on the host, or our key may not run it. Install rsync there.")
        return
    version = tuple(int(part) for part in match.groups())
    words = ".".join(str(part) for part in version)
    if version < MIN_VERSION:
        bad.append(f"The host's rsync is {words}; 3.2.0 or newer is needed. Update it.")
    else:
        good.append(f"The host's rsync is {words}.")


async def _try_path(connection: Connection, path: str, good: list[str], bad: list[str]) -> None:
    listed = await connection.remote("rsync", "--list-only", "--no-recursive", "--dirs", "--", f"{path}/")
    if listed.returncode == 0:
        good.append(f"{path} can be read.")
    else:
        reason = listed.said.splitlines()[0][:200] if listed.said else "no reason given"
        bad.append(f"{path} cannot be read: {reason}. Check the path and the rights of {connection.host.user}.")
