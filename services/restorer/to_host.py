"""A restore back to a host: over SSH with its restore key, beside the original or, asked by name, over it.

Through the narrow command of that key nothing on the host can be renamed or removed. So a tree beside the original
has its final name from the start, and a file `….verified` beside it says, in the end, that all of it was compared.
"""

from __future__ import annotations

import asyncio
import functools
import os
import tempfile
from datetime import datetime
from pathlib import Path

import msgspec

from services.restorer import places
from services.restorer.checksums import check
from services.restorer.links import refuse_links
from services.restorer.rsync import Moved, Push
from services.restorer.to_folder import refuse_differences
from services.restorer.transfer import differing, move
from services.restorer.watch import watched
from services.restorer.work import Made, Work
from shared.adapters.clock import SystemClock
from shared.adapters.milestones import Milestone, reached
from shared.domain.errors import RunFailed
from shared.runtime.restore_key import not_accepted, public_line
from shared.runtime.ssh import run_folder, shell_through, ssh_connection


async def restore_to_host(work: Work, clock: SystemClock) -> Made:
    """Restore to the host. Raises RunFailed and HostUnreachable."""
    key = work.host.restore_key_path(work.settings)
    if work.host.transport == "local":
        raise RunFailed(f"{work.host.name} is this machine.", "Restore to a folder of it.", code="local")
    if not await asyncio.to_thread(key.exists):
        raise RunFailed(
            f"There is no restore key for {work.host.name} yet: the key of backups can only read.",
            f"`backup-manager hosts restore-key {work.host.name}` makes one and says where its line goes.",
            code="restore_key",
        )
    line = await asyncio.to_thread(public_line, work.host, work.settings)
    checked = await _check_source(work)
    await refuse_links(work)
    try:
        async with ssh_connection(work.host, work.settings, key) as sockets:
            reached(Milestone.RESTORE_CONNECTED)
            return await _through(work, shell_through(f"{sockets}/ssh"), checked, clock.now())
    except RunFailed as error:
        if error.code != "ssh_key":
            raise
        raise not_accepted(work.host, line) from error


async def _check_source(work: Work) -> int:
    """The restore point is what was backed up: what a host has is compared with it, not with its checksums."""
    checking = functools.partial(check, work.source, work.source.descriptor, work.paths)
    covered, wrong = await watched(checking, work.progress.verified)
    refuse_differences([wrong])
    return len(covered)


async def _through(work: Work, shell: str, checked_files: int, now: datetime) -> Made:
    pushes = _over(work, shell) if work.wish.over_original else _beside(work, shell)
    for where, push in pushes:
        work.left.append(where)
        await move(
            push,
            work.lock,
            work.progress.moved,
            acls=work.acls,
            bandwidth_limit_kib=work.host.bandwidth_limit_kib,
        )
        work.progress.next_transfer()
    reached(Milestone.RESTORE_PUSHED)
    differences = []
    for _, push in pushes:
        compared = msgspec.structs.replace(push, extra=tuple(o for o in push.extra if not o.startswith("--backup")))
        differences.append(await differing(compared, work.lock, acls=work.acls))
    refuse_differences(differences)
    reached(Milestone.RESTORE_HOST_COMPARED)
    if not work.wish.over_original:
        for where, _ in pushes:
            await _say_verified(work, shell, where, now)
            reached(Milestone.RESTORE_NOTED)
    kept = f"What was replaced lies in {', '.join(f'{where}{_aside(work)}' for where, _ in pushes)}."
    warnings = (kept,) if work.wish.over_original else ()
    work.left.clear()
    return Made(tuple(where for where, _ in pushes), work.counted.files, checked_files, warnings)


def _beside(work: Work, shell: str) -> list[tuple[str, Push]]:
    suffix = f"{work.wish.point}-{work.run.hex[-12:-4]}"
    return [
        (
            f"{work.host.name}:{one.container}",
            Push(
                tuple(_source(work, above, rest) for above, rest in one.sources),
                f"{work.host.name}:{one.container}/",
                shell,
                ("--mkpath",),
            ),
        )
        for one in places.beside(work.host.paths, work.paths, suffix)
    ]


def _source(work: Work, above: bytes, rest: bytes) -> bytes:
    return work.source.path + (b"/" + above if above else b"") + b"/./" + rest


def _over(work: Work, shell: str) -> list[tuple[str, Push]]:
    aside = ("--no-implied-dirs", "--backup", f"--backup-dir={_aside(work)}")
    return [
        (
            f"{work.host.name}:{one.root}",
            Push(
                tuple(_source(work, b"", path) for path in one.paths),
                f"{work.host.name}:{one.root}",
                shell,
                aside,
            ),
        )
        for one in places.in_place(work.host.paths, work.paths)
    ]


def _aside(work: Work) -> str:
    """The folder, in each directory that files are put over, for those that are replaced.

    A relative name: rrsync makes an absolute one relative, and to rsync it then means another place.
    """
    return f"replaced-by-restore-{work.wish.point}-{work.run.hex[-12:-4]}"


async def _say_verified(work: Work, shell: str, where: str, now: datetime) -> None:
    """Put the file beside the tree that says that all of it was compared."""
    container = where.partition(":")[2]
    text = (
        f"{container} was restored from {work.wish.kind} {work.wish.point} of {work.host.name} and compared with it, "
        f"byte for byte, on {now:%Y-%m-%d %H:%M:%S} UTC.\n"
    )
    name = f"{os.path.basename(container)}.verified"  # noqa: PTH119  # a path on another machine
    with tempfile.TemporaryDirectory(prefix="backup-restore-", dir=run_folder(work.settings)) as folder:
        note = Path(folder) / name
        await asyncio.to_thread(note.write_text, text, encoding="utf-8")
        parent = os.path.dirname(container)  # noqa: PTH120  # a path on another machine
        push = Push((os.fsencode(folder) + b"/./" + name.encode(),), f"{work.host.name}:{parent}/", shell)
        await move(push, work.lock, _nobody, acls=False, bandwidth_limit_kib=None)


async def _nobody(_: Moved) -> None:
    """A file of two lines has no progress."""
