"""A restore to a folder on this server: a fresh directory, moved, synced, compared, and only then named."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Final

from services.restorer.checksums import check
from services.restorer.compare import Comparison, Differences
from services.restorer.rsync import NO_ROOM, Push
from services.restorer.selection import link_on_the_way, open_beneath
from services.restorer.transfer import move
from services.restorer.watch import watched
from services.restorer.work import Made, Work
from shared.adapters import filesystem
from shared.adapters.clock import SystemClock
from shared.adapters.filesystem import open_directory
from shared.adapters.milestones import Milestone, reached
from shared.adapters.store import HOST_FOLDERS
from shared.adapters.threads import in_thread, to_the_end
from shared.config import Settings
from shared.domain.errors import RunFailed
from shared.domain.restore_request import MAX_PATH_BYTES, encode_path
from shared.domain.room import Need, Room, why_no_room

PARTIAL: Final = ".partial-"
_A_LINK: Final = "a symbolic link, and none is followed"
MOST_NAMES: Final = 100
"""So many restores of one second to one folder get a name of their own."""


async def restore_to_folder(work: Work, clock: SystemClock) -> Made:
    """Restore beneath the folder that was asked for. Raises RunFailed and OSError.

    Until all of it was compared, it lies in a directory `.partial-<run>`; what is under another name is right.
    """
    partial = f"{PARTIAL}{work.run}"
    with opened_target(work.settings, work.wish.folder) as folder:
        _remove_older(work, folder)
        _check_room(work, folder)
        os.mkdir(partial, 0o700, dir_fd=folder)
        work.left.append(str(Path(work.wish.folder) / partial))
        reached(Milestone.RESTORE_FOLDER_MADE)
        with open_directory(partial, at=folder) as tree:
            before_all_writes = os.dup(tree)
            try:
                await _move(work, folder, partial)
                reached(Milestone.RESTORE_COPIED)
                await in_thread(filesystem.sync_filesystem, before_all_writes)
                reached(Milestone.RESTORE_SYNCED)
                made = await _verify(work, tree)
                reached(Milestone.RESTORE_COMPARED)
            except (RunFailed, OSError) as error:
                await _give_room_back(work, folder, partial, error)
                raise
            finally:
                os.close(before_all_writes)
        name = await to_the_end(_named, work, folder, partial, clock.now())
        reached(Milestone.RESTORE_NAMED)
    work.left.clear()
    return Made((str(Path(work.wish.folder) / name),), made.verified_files, made.checked_files, made.warnings)


@contextmanager
def opened_target(settings: Settings, folder: str) -> Iterator[int]:
    """The directory to restore into, reached through no symbolic link below the allowed one. Raises RunFailed."""
    path = PurePosixPath(folder)
    allowed = next((one for one in settings.restored_below() if path.is_relative_to(one)), None)
    if allowed is None:
        raise RunFailed(f"{folder} is not one of RESTORE_FOLDERS.", "Ask again, for an allowed one.", code="folder")
    if not settings.restore_folders:
        Path(allowed).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            Path(allowed).mkdir(mode=0o700)
    descriptor = _opened(folder, allowed, os.fsencode(path.relative_to(allowed)))
    try:
        _refuse_store(settings, descriptor, folder)
        yield descriptor
    finally:
        os.close(descriptor)


def _opened(folder: str, allowed: str, below: bytes) -> int:
    why = ""
    try:
        with open_directory(allowed) as top:
            try:
                return open_beneath(top, below)
            except OSError:
                why = _A_LINK if link_on_the_way(top, below) else ""
                raise
    except OSError as error:
        why = why or (_A_LINK if Path(allowed).is_symlink() else os.strerror(error.errno or 0).lower())
        raise RunFailed(
            f"{folder} cannot be restored into: {why}.", "Make a real folder there, or choose another.", code="folder"
        ) from error


def _refuse_store(settings: Settings, descriptor: int, folder: str) -> None:
    """Nothing is restored into a store, by whatever way the folder leads there."""
    ours = {_identity(place) for root in settings.stores.values() for place in _places_of_store(root)}
    place = Path(os.path.realpath(f"/proc/self/fd/{descriptor}"))
    if any((found := _identity(above)) is not None and found in ours for above in (place, *place.parents)):
        raise RunFailed(f"{folder} lies in BACKUP_ROOT or another store.", "Choose a folder elsewhere.", code="folder")


def _places_of_store(root: Path) -> Iterator[Path]:
    """The store and the folders in it that may be mounted elsewhere once more."""
    yield root
    for host in root.iterdir() if root.is_dir() else ():
        if host.is_dir() and not host.is_symlink():
            yield from (host, *(host / name for name in HOST_FOLDERS))


def _identity(place: Path) -> tuple[int, int] | None:
    try:
        found = place.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _remove_older(work: Work, folder: int) -> None:
    """What tries before this one left is removed: they are of the same restore, and none of them ended well."""
    for run in work.wish.runs:
        with suppress(FileNotFoundError):
            filesystem.remove_tree(f"{PARTIAL}{run}", at=folder)


def _check_room(work: Work, folder: int) -> None:
    found = os.fstatvfs(folder)
    room = Room(
        total_bytes=found.f_blocks * found.f_frsize,
        free_bytes=found.f_bavail * found.f_frsize,
        total_inodes=found.f_files,
        free_inodes=found.f_favail if found.f_files else None,
    )
    need = Need(work.counted.stored_bytes, work.counted.entries, "that is what is to be restored")
    if reason := why_no_room(room, need):
        raise RunFailed(
            f"It does not fit into {work.wish.folder}: {reason}", "Free some room, or restore less.", code=NO_ROOM
        )


async def _move(work: Work, folder: int, partial: str) -> None:
    sources = tuple(work.source.path + b"/./" + path for path in work.paths)
    place = os.readlink(f"/proc/self/fd/{folder}")  # noqa: PTH115  # a link of the kernel, not a path
    push = Push(sources, f"{place}/{partial}/")
    await move(push, work.lock, work.progress.moved, acls=work.acls, bandwidth_limit_kib=None)


async def _verify(work: Work, tree: int) -> Made:
    covered, wrong = await watched(functools.partial(check, work.source, tree, work.paths), work.progress.verified)
    comparison = Comparison(work.source.descriptor, tree, covered, owners=os.geteuid() == 0)
    differing = await watched(functools.partial(comparison.run, work.paths), work.progress.verified)
    refuse_differences([wrong, differing])
    unchecked = work.counted.files - len(covered)
    warnings = (f"{unchecked:,} files had no checksum and were compared with the drive.",) if unchecked > 0 else ()
    return Made((), work.counted.files, len(covered), warnings)


def refuse_differences(found: Sequence[Differences]) -> None:
    """Raises RunFailed with the names when anything differs."""
    count = sum(one.count for one in found)
    named = [name for one in found for name in one.named][: Differences.KEPT]
    if count:
        more = f" and {count - len(named)} more" if count > len(named) else ""
        raise RunFailed(
            f"What was restored is not what the restore point should be: {'; '.join(named)}{more}.",
            "Check both drives: dmesg tells why. Try another restore point, too.",
            code="differs",
        )


async def _give_room_back(work: Work, folder: int, partial: str, error: Exception) -> None:
    full = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
    if full or (isinstance(error, RunFailed) and error.code == NO_ROOM):
        await in_thread(filesystem.remove_tree, partial, at=folder)
        work.left.clear()


def _named(work: Work, folder: int, partial: str, now: datetime) -> str:
    """Give the tree its final name, which nothing has yet."""
    wanted = f"{work.host.name}_{work.wish.point}_{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    for number in range(1, MOST_NAMES):
        name = wanted if number == 1 else f"{wanted}_{number}"
        with suppress(FileExistsError):
            filesystem.rename_new(partial, name, source_at=folder, target_at=folder)
            return name
    raise RunFailed(f"{encode_path(wanted.encode())[:MAX_PATH_BYTES]} is taken.", code="folder", transient=True)
