"""The way to a host: one SSH connection that everything shares, or none at all for this machine itself.

The connection is made outside the walls, with the host's own key and its pinned host key; the confined receiver
only ever sees the socket.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from services.snapshotter import sandbox
from shared.config import HostSettings, Settings
from shared.domain.errors import RunFailed
from shared.runtime.ssh import shell_through, ssh_connection


@dataclass(frozen=True, slots=True)
class Connection:
    """How rsync reaches the host. `sockets` is the folder of the shared connection; None: this machine itself."""

    host: HostSettings
    sockets: Path | None

    def sources(self, *, inside: bool) -> list[str]:
        """The source arguments of rsync, as seen from inside the walls or from outside."""
        if self.sockets is None:
            prefix = sandbox.INSIDE_SOURCE if inside else ""
            return [f"{prefix}{_marked(path)}" for path in self.host.paths]
        first, *others = self.host.paths
        return [f"{self.host.name}:{_marked(first)}", *(f":{_marked(path)}" for path in others)]

    @property
    def local_paths(self) -> list[Path]:
        """What of this machine itself the receiver has to see; nothing when the host is another one."""
        return [Path(path.replace("/./", "/")) for path in self.host.paths] if self.sockets is None else []

    def shell(self, *, inside: bool) -> str | None:
        """rsync's remote shell: ssh through the shared connection, unable to open one of its own."""
        if self.sockets is None:
            return None
        socket = f"{sandbox.INSIDE_SOCKETS if inside else self.sockets}/ssh"
        return shell_through(socket)


def _marked(path: str) -> str:
    """The path with rsync's /./ in it: what lies behind is the path inside the snapshot."""
    return path if "/./" in path else f"/.{path}"


@asynccontextmanager
async def connected(host: HostSettings, settings: Settings) -> AsyncIterator[Connection]:
    """A connection to the host while the block runs. Raises HostUnreachable or RunFailed."""
    if host.transport == "local":
        _refuse_own_store(host, settings)
        yield Connection(host, None)
        return
    async with ssh_connection(host, settings) as sockets:
        yield Connection(host, sockets)


def _refuse_own_store(host: HostSettings, settings: Settings) -> None:
    for path in host.paths:
        source = Path(path.replace("/./", "/"))
        for root in settings.stores.values():
            if root.is_relative_to(source):
                raise RunFailed(
                    f"{source} contains BACKUP_ROOT {root}: every snapshot would hold all older ones.",
                    "Back up narrower paths of this machine.",
                    code="own_store",
                )
