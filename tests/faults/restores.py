"""A restore to a folder as a protocol: into a folder beside the store, in which others have something already.

Only a few paths, so that each call of rsync can be struck: a file with two names, a link, a folder with attributes.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast
from uuid import UUID

from services.restorer import transfer
from services.restorer.progress import Progress
from services.restorer.selection import being_read, counted
from services.restorer.to_folder import PARTIAL, restore_to_folder
from services.restorer.transfer import keeps_acls
from services.restorer.work import Work
from shared.adapters.clock import SystemClock
from shared.adapters.store import HostFolder
from shared.config import HostSettings, Settings
from shared.domain.events import Job, Kind
from shared.domain.names import snapshot_name
from shared.domain.restore_request import TO_FOLDER
from shared.domain.restore_state import RestoreState
from shared.runtime.host_log import HostLog
from tests.faults.drives import FIRST_RUN, Here
from tests.faults.protocols import PROTOCOLS, Protocol
from tests.support.builders import HOST, MAIN, SLOT
from tests.support.trees import ROOT, Tree, differences, snapshot_of

RESTORE: Final = "restore to a folder"
TARGET: Final = "restored"
SOURCE: Final = snapshot_name(SLOT)
PATHS: Final = tuple(f"home/alice/{name}" for name in ("changed", "second name", "link", "deep/er"))
THERE_BEFORE: Final = {
    "of somebody else/letter": b"Dear Bob",
    f"{PARTIAL}019cc238-2c00-7abc-8def-0123456a0077/home/letter": b"of a restore that is under way",
}
NANOSECONDS: Final = 1_772_784_000_123_456_789
_WHOLE: Final = re.compile(rf"{HOST}_{SOURCE}_\d{{8}}T\d{{6}}Z(_\d+)?")


class _SilentLog:
    """Nobody asks how far it is."""

    async def record(self, *_: object) -> None:
        pass


async def _restore(here: Here) -> None:
    """Restore as the handler of the restorer does, as one try of a request that FIRST_RUN has tried before."""
    place = here.store.root.parent
    host = HostSettings(name=HOST, transport="local", paths=("/nowhere/./home",), excludes=())
    settings = Settings(
        backup_root=here.store.root,
        data_dir=place / "data",
        store=MAIN,
        hosts=(host,),
        restore_folders=(str(place / TARGET),),
    )
    wish = RestoreState(
        restore=UUID("019cc238-2c00-7abc-8def-0123456a0055"),
        slot=SLOT,
        kind=Kind.SNAPSHOT,
        point=SOURCE,
        target=TO_FOLDER,
        paths=PATHS,
        folder=str(place / TARGET),
        runs=(FIRST_RUN,),
    )
    clock, paths = SystemClock(), [path.encode() for path in PATHS]
    progress = Progress(cast(HostLog, _SilentLog()), clock, HOST, here.run, wish.restore)
    progress.total_bytes = 1
    with being_read(here.folder, Kind.SNAPSHOT, SOURCE) as source:
        found = counted(source, paths, lambda: None)
        acls = await keeps_acls()
        work = Work(
            here.run, wish, host, settings, here.store, here.lock, source, paths, found, progress, acls
        )  # fmt: skip
        await restore_to_folder(work, clock)


def _prepare(folder: HostFolder) -> None:
    """Put there what others have in the folder."""
    target = folder.path.parents[1] / TARGET
    for name, content in THERE_BEFORE.items():
        path = target / name
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        os.utime(path, ns=(NANOSECONDS, NANOSECONDS))


def _wrong(place: Path, *, done: bool, over: bool) -> Iterator[str]:
    """What is wrong in the folder: whatever bears the name of a restore is whole, and nothing else has changed."""
    target = place / TARGET
    for name, content in THERE_BEFORE.items():
        path = target / name
        if (
            path.read_bytes() != content
            or path.stat().st_mtime_ns != NANOSECONDS
            or len(list(path.parent.iterdir())) > 1
        ):
            yield f"{name} has changed, or is not alone any more"
    names = set(os.listdir(target)) - {name.partition("/")[0] for name in THERE_BEFORE}
    whole = {name for name in names if _WHOLE.fullmatch(name)}
    if done and not whole:
        yield "it was done, but nothing was restored"
    for name in sorted(whole):
        yield from (f"{name}: {it}" for it in differences(_wanted(place), snapshot_of(target / name), root=False))
    for name in sorted(names - whole):
        if over or not name.startswith(PARTIAL):
            yield f"{name} was left"


def _wanted(place: Path) -> Tree:
    """What there is of the restore point at these paths, below them, and on the way to them."""
    source = snapshot_of(place / "store" / HOST / "hourly" / SOURCE)
    ends = tuple(path.encode() for path in PATHS)

    def is_asked_for(path: bytes) -> bool:
        on_the_way = any(end.startswith(path + b"/") for end in ends)
        return path == ROOT or on_the_way or any(path == end or path.startswith(end + b"/") for end in ends)

    return Tree({path: entry for path, entry in source.entries.items() if is_asked_for(path)})


def _stand_in(script: Path) -> None:
    transfer.ENVIRONMENT["PATH"] = f"{script.parent}:{transfer.ENVIRONMENT['PATH']}"


STRUCK: Final = {
    **PROTOCOLS,
    RESTORE: Protocol(
        Job.RESTORE,
        (Kind.SNAPSHOT, SOURCE),
        _restore,
        _prepare,
        programs="--info=progress2",
        steady=False,
        program=shutil.which("rsync") or "",
        stand_in=_stand_in,
        beside=_wrong,
        calls=5,
    ),
}
"""What is struck at each of its calls."""
