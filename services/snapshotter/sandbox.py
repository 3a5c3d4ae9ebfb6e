"""The walls around the receiver: bubblewrap, with a process namespace and a view of one host's snapshots only.

Why: a host can offer a symbolic link now and a directory with a decoy of the same size and time an hour later;
`--link-dest` then links a file of this machine into that host's snapshot (ARCHITECTURE.md, decision on the
confined receiver). Inside the walls there is nothing to link: no keys, no other host, no network.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from shared.adapters import process
from shared.adapters.store import MASKED_FOLDERS
from shared.domain.errors import ToolMissing

INSIDE_HOST: Final = "/host"
INSIDE_SOCKETS: Final = "/connection"
INSIDE_SOURCE: Final = "/source"
INSIDE_BASE: Final = "/base"
INSIDE_NOTHING: Final = "/tmp/nothing"  # noqa: S108  # the one inside the walls, gone with them

CAPABILITIES: Final = ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID")
"""What a root receiver needs to give files their owners and modes, and nothing else."""

_SYSTEM: Final = ("/lib", "/lib32", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/ssl/openssl.cnf")

ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def confined(
    command: Sequence[str],
    *,
    host_folder: Path | None,
    sockets: Path | None,
    sources: Sequence[Path] = (),
    base: Path | None = None,
    begin_in: str = "",
) -> list[str]:
    """The command inside the walls. The host's folder is the only thing in there that can be written.

    `base` is for a command that writes nothing: one snapshot to compare with, instead of that folder. `begin_in` is
    where below the host's folder the command begins: where that is not there, the drive has been exchanged since it
    was made, and the command never starts, so that it writes nothing to the other one.
    """
    argv = ["bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    argv += ["--die-with-parent", "--new-session"]
    if os.geteuid() != 0:
        # Root stays in its own user namespace: in a new one it could give files to nobody but itself.
        argv += ["--unshare-user"]
    # Without dropping all of them first, bubblewrap leaves root every capability it had.
    argv += ["--cap-drop", "ALL"]
    for capability in CAPABILITIES:
        argv += ["--cap-add", capability]
    argv += ["--ro-bind", "/usr", "/usr"]
    for path in _SYSTEM:
        argv += ["--ro-bind-try", path, path]
    argv += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108  # the one inside the walls
    argv += ["--clearenv"]
    for name, value in ENVIRONMENT.items():
        argv += ["--setenv", name, value]
    if sockets is not None:
        # Not read-only would do as well: a socket is written to, not its directory.
        argv += ["--ro-bind", str(sockets), INSIDE_SOCKETS]
        argv += ["--ro-bind", str(sockets / "passwd"), "/etc/passwd"]
    for source in sources:
        argv += ["--ro-bind", str(source), f"{INSIDE_SOURCE}{source}"]
    if base is not None:
        argv += ["--ro-bind", str(base), INSIDE_BASE]
    if host_folder is not None:
        argv += ["--bind", str(host_folder), INSIDE_HOST, "--chdir", f"{INSIDE_HOST}/{begin_in}"]
        for name in MASKED_FOLDERS:
            argv += ["--tmpfs", f"{INSIDE_HOST}/{name}"]
    return [*argv, "--", *command]


async def why_not_confined() -> str:
    """Empty when bubblewrap works here; otherwise why it does not."""
    try:
        tried = await process.run(confined(["rsync", "--version"], host_folder=None, sockets=None), timeout_seconds=10)
    except (ToolMissing, process.ProcessTimedOut) as error:
        return error.message
    return "" if tried.returncode == 0 else f"bubblewrap does not work here: {tried.said[:300]}"
