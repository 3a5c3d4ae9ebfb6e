"""Nothing is written on a host through a symbolic link that one of its users put on the way.

rsync 3.5 refuses such links by itself; older ones on hosts follow them, as root. So the way is looked at before, with
the key of backups, which may read. The paths that are set for the host are its owner's word, and taken as they are.
"""

from __future__ import annotations

from typing import Final

from services.restorer import places, rsync
from services.restorer.work import Work
from shared.adapters import process
from shared.domain.errors import RunFailed
from shared.domain.restore_request import encode_path
from shared.runtime.ssh import shell_through, ssh_connection

LOOK_TIMEOUT_SECONDS: Final = 120.0
SOME_MISSING: Final = 23


async def refuse_links(work: Work) -> None:
    """Raises RunFailed when a folder on the way to what is written is a link, and HostUnreachable."""
    ways = places.ways(work.host.paths, work.paths)
    if not ways:
        return
    async with ssh_connection(work.host, work.settings) as sockets:
        shell = shell_through(f"{sockets}/ssh")
        for way in ways:
            listed = await _listed(work, shell, way)
            if listed.startswith(b"l"):
                raise RunFailed(
                    f"{encode_path(way.encode())} is a symbolic link on {work.host.name} now, and none is followed.",
                    "Restore to a folder on the server, or remove the link.",
                    code="link",
                )


async def _listed(work: Work, shell: str, way: str) -> bytes:
    """What rsync says of a folder itself; nothing when it is not there."""
    argv = ["rsync", "-e", shell, "--list-only", "-dl", "--", f"{work.host.name}:{way}"]
    done = await process.run(argv, timeout_seconds=LOOK_TIMEOUT_SECONDS, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"})
    if done.returncode != SOME_MISSING or b"No such file" not in done.stderr:
        rsync.judge(done.returncode, done.said)
    return done.stdout.strip()
