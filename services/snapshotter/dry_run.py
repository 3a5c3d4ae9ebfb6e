"""Tries everything a snapshot needs, without writing into any host's tree."""

from __future__ import annotations

from services.snapshotter import sandbox
from services.snapshotter.connection import Connection, connected
from services.snapshotter.rsync import Ability, Complaints, judge
from shared.adapters import process
from shared.config import HostSettings, Settings
from shared.domain.errors import HostUnreachable, RunFailed

LIST_TIMEOUT_SECONDS = 60.0


async def try_host(host: HostSettings, settings: Settings, ability: Ability) -> tuple[bool, list[str]]:
    """Whether a snapshot of this host would work, and what was found, in sentences, worst first."""
    good: list[str] = []
    bad: list[str] = []
    try:
        async with connected(host, settings) as connection:
            good.append(f"{host.name} answers and accepts our key." if connection.sockets else "This machine itself.")
            for source in connection.sources(inside=ability.confined):
                path = source.split(":", 1)[-1].replace("/./", "/").removeprefix(sandbox.INSIDE_SOURCE)
                problem = await _try_path(connection, ability, f"{source}/")
                if problem:
                    bad.append(f"{path} cannot be read: {problem}")
                else:
                    good.append(f"{path} can be read.")
    except (HostUnreachable, RunFailed) as error:
        bad.append(f"{error.message} {error.hint}".strip())
    if not ability.confined:
        good.append("The receiver is not confined here (bubblewrap does not work); symbolic links are kept munged.")
    return not bad, [*bad, *good]


async def _try_path(connection: Connection, ability: Ability, source: str) -> str:
    """What is wrong with listing a path the way a snapshot would read it; nothing when it works."""
    inside = ability.confined
    shell = connection.shell(inside=inside)
    command = ["rsync", "--list-only", "--dirs", "--checksum-choice=xxh128", *(["-e", shell] if shell else [])]
    source = f"{connection.host.name}{source}" if source.startswith(":") else source
    command += ["--", source]
    if inside:
        command = sandbox.confined(
            command, host_folder=None, sockets=connection.sockets, sources=connection.local_paths
        )
    listed = await process.run(command, timeout_seconds=LIST_TIMEOUT_SECONDS, env=sandbox.ENVIRONMENT)
    complaints = Complaints()
    complaints.add(listed.stderr)
    complaints.end()
    try:
        verdict = judge(listed.returncode, complaints)
    except RunFailed as error:
        return f"{error.message} {error.hint}".strip()
    return " ".join(verdict.warnings) if verdict.degraded else ""
