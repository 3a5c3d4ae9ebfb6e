"""Counts what the next snapshot would move, by an rsync that is confined as in a real run and writes nothing."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from services.snapshotter import rsync, sandbox
from services.snapshotter.connection import Connection
from services.snapshotter.output import OutputReader, Totals
from services.snapshotter.rsync import Ability, Complaints, Verdict
from services.snapshotter.run import being_read
from services.snapshotter.space import counted_need
from shared.adapters import process
from shared.adapters.markers import StoredSnapshot
from shared.adapters.store import HostFolder
from shared.domain.room import Need

ESTIMATE_SECONDS: Final = 900.0
"""A host with very many files is not counted for hours: a worker waits for it."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What rsync counted, and what it could not look into."""

    totals: Totals
    verdict: Verdict

    @property
    def need(self) -> Need:
        """What that takes of the drive."""
        return counted_need(self.totals)


async def estimate(
    connection: Connection,
    ability: Ability,
    folder: HostFolder | None,
    base: StoredSnapshot | None,
    *,
    seconds: float = ESTIMATE_SECONDS,
) -> Estimate:
    """What the next snapshot would move when it shares with this base. Raises RunFailed, ProcessTimedOut.

    `folder` is where the base is; None: this host has nothing on the drive yet.
    """
    complaints = Complaints()
    reader = OutputReader(b"\0")  # not one line is about a file, and none can begin like that
    with ExitStack() as stack:
        tree = None
        if folder is not None and base is not None:
            stack.enter_context(being_read(folder, base))
            tree = folder.path / "hourly" / base.name
        command = _command(connection, ability, tree, stack)
        done = await process.run(command, timeout_seconds=seconds, env=sandbox.ENVIRONMENT)
    complaints.add(done.stderr)
    complaints.end()
    verdict = rsync.judge(done.returncode, complaints)
    reader.take(done.stdout + b"\n")
    return Estimate(reader.totals(), verdict)


def _command(connection: Connection, ability: Ability, base: Path | None, stack: ExitStack) -> list[str]:
    host, inside = connection.host, ability.confined
    # Without attributes: rsync 3.5 fails of them when a file is shared with a base and nothing is really made.
    walls = ability.insecure_links and connection.sockets is not None
    ability = msgspec.structs.replace(ability, attributes=False, acls=False, insecure_links=walls)
    # Outside of the walls, too, it is an empty place of its own, far from the drive: rsync only looks at it.
    nothing = sandbox.INSIDE_NOTHING if inside else stack.enter_context(tempfile.TemporaryDirectory())
    command = rsync.arguments(
        ability=ability,
        token="",
        sources=connection.sources(inside=inside),
        destination=f"{nothing}/",
        excludes=host.excludes,
        base=None if base is None else sandbox.INSIDE_BASE if inside else str(base),
        shell=connection.shell(inside=inside),
        bandwidth_limit_kib=host.bandwidth_limit_kib,
        only_count=True,
    )
    if not inside:
        return process.dying_with_parent(command)
    return sandbox.confined(
        command, host_folder=None, sockets=connection.sockets, sources=connection.local_paths, base=base
    )
