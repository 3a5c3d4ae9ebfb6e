"""Tries everything a snapshot needs, without writing into any host's tree."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from services.snapshotter import sandbox, versions
from services.snapshotter.connection import Connection, connected
from services.snapshotter.dry_room import Findings, try_room
from services.snapshotter.estimate import ESTIMATE_SECONDS
from services.snapshotter.rsync import Ability, Complaints, judge
from shared.adapters import process
from shared.adapters.process import Finished
from shared.config import HostSettings, Settings
from shared.domain.errors import BackupManagerError, RunFailed

LIST_TIMEOUT_SECONDS: Final = 60.0


async def try_host(
    host: HostSettings,
    settings: Settings,
    ability: Ability,
    *,
    used_bytes: int | None = None,
    estimate_seconds: float = ESTIMATE_SECONDS,
) -> tuple[bool, list[str]]:
    """Whether a snapshot of this host would work, and what was found, in sentences, worst first.

    `used_bytes` is what the log says this host takes of the drive; None: it was not asked or is away.
    """
    found = Findings()
    _try_own_rsync(ability, found)
    async with _noted(found), connected(host, settings) as connection:
        found.good.append(f"{host.name} answers and accepts our key." if connection.sockets else "This machine.")
        if await _try_host_rsync(connection, ability, found) and await _try_paths(connection, ability, found):
            await try_room(connection, settings, ability, found, used_bytes=used_bytes, seconds=estimate_seconds)
    if not ability.confined:
        found.unsure.append(
            "The receiver is not confined here (bubblewrap does not work); symbolic links are kept munged."
        )
    return not found.bad, found.sentences()


@asynccontextmanager
async def _noted(found: Findings) -> AsyncIterator[None]:
    """What ends a step is a finding, and whatever would have relied on it is not tried."""
    try:
        yield
    except BackupManagerError as error:
        found.bad.append(f"{error.message} {error.hint}".strip())
    except OSError as error:
        found.bad.append(f"The drive could not be looked at: {error}. Check the drive: dmesg tells why.")


def _try_own_rsync(ability: Ability, found: Findings) -> None:
    if reason := versions.why_too_old_here(ability.version):
        found.bad.append(reason)
    else:
        found.good.append(f"rsync here is {ability.version}.")


async def _try_host_rsync(connection: Connection, ability: Ability, found: Findings) -> bool:
    """Whether the host's rsync will do. A key may allow nothing but rsync, so only that is asked."""
    if connection.sockets is None:
        return True
    name = connection.host.name
    source = connection.sources(inside=ability.confined)[0]
    plain = await _list(connection, ability, ["--debug=PROTO"], source)
    protocol = versions.protocol_of(plain.stdout)
    if protocol is None:
        return True  # whatever keeps it from talking is said of the paths
    if protocol < versions.PROTOCOL_FLOOR:
        found.bad.append(
            f"rsync on {name} {versions.protocol_in_words(protocol)}, too old: install 3.2 or newer there."
        )
        return False
    asked = await _list(connection, ability, ["--checksum-choice=xxh128"], source)
    if plain.returncode == 0 and asked.returncode in {1, 2, 4, 12}:
        found.bad.append(
            f"rsync on {name} {versions.protocol_in_words(protocol)}, but does not take the checksum xxh128: install "
            f"3.2 or newer there. It said: {_first_line(asked)}"
        )
        return False
    found.good.append(f"rsync on {name} {versions.protocol_in_words(protocol)}.")
    return True


async def _try_paths(connection: Connection, ability: Ability, found: Findings) -> bool:
    """Whether all paths can be read."""
    for source in connection.sources(inside=ability.confined):
        path = source.split(":", 1)[-1].replace("/./", "/").removeprefix(sandbox.INSIDE_SOURCE)
        listed = await _list(connection, ability, ["--checksum-choice=xxh128"], f"{source}/")
        if problem := _problem(listed):
            found.bad.append(f"{path} cannot be read: {problem}")
        else:
            found.good.append(f"{path} can be read.")
    return not found.bad


async def _list(connection: Connection, ability: Ability, options: list[str], source: str) -> Finished:
    """List a path the way a snapshot would read it, itself or with a / at the end what is directly in it."""
    inside = ability.confined
    shell = connection.shell(inside=inside)
    command = ["rsync", "--list-only", "--dirs", *options, *(["-e", shell] if shell else [])]
    command += ["--", f"{connection.host.name}{source}" if source.startswith(":") else source]
    if inside:
        command = sandbox.confined(
            command, host_folder=None, sockets=connection.sockets, sources=connection.local_paths
        )
    return await process.run(command, timeout_seconds=LIST_TIMEOUT_SECONDS, env=sandbox.ENVIRONMENT)


def _problem(listed: Finished) -> str:
    """What was wrong with listing a path; nothing when it worked."""
    complaints = Complaints()
    complaints.add(listed.stderr)
    complaints.end()
    try:
        verdict = judge(listed.returncode, complaints)
    except RunFailed as error:
        return f"{error.message} {error.hint}".strip()
    return " ".join(verdict.warnings) if verdict.degraded else ""


def _first_line(finished: Finished) -> str:
    lines = [line for line in finished.said.splitlines() if not line.startswith("rsync error:")]
    return lines[0][:300] if lines else "nothing"
