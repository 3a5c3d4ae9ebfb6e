"""The trash of a host: restore points that were ordered to go, whole until they are purged.

<host>/.trash/<run>/<kind>/<name>. A point gets there and back by one rename, so that it is always in one place; an
archive's record and checksum follow it, and whoever looks next brings them along.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from uuid import UUID

from shared.adapters import filesystem
from shared.adapters.filesystem import make_directory, open_directory, rename_new
from shared.adapters.markers import MARKER_FILE
from shared.adapters.milestones import Milestone, reached
from shared.adapters.restore_points import CHECKSUM_SUFFIX, FOLDERS, TRASH, parts_of, record_name
from shared.adapters.store import HostFolder
from shared.domain.errors import PointHalfGone, PointInUse
from shared.domain.events import Kind
from shared.domain.host_state import point_key


@dataclass(frozen=True, slots=True)
class Trashed:
    """A restore point in the trash, and the run that put it there."""

    run: UUID
    kind: Kind
    name: str

    @property
    def key(self) -> str:
        """How it is called where kinds are mixed."""
        return point_key(self.kind, self.name)


@contextmanager
def alone(folder: HostFolder, kind: Kind, name: str) -> Iterator[None]:
    """Have a restore point for oneself. Raises PointInUse while anybody reads it, FileNotFoundError."""
    with open_directory(FOLDERS[kind], at=folder.descriptor) as place, _locked(name, at=place):
        yield


def throw_away(folder: HostFolder, run: UUID, kind: Kind, name: str) -> None:
    """Move a restore point to the trash, durably. Raises OSError; then it is where it was, or in the trash.

    The caller has it for himself (`alone`).
    """
    with open_directory(TRASH, at=folder.descriptor) as trash:
        make_directory(str(run), at=trash, mode=0o700)
        with open_directory(str(run), at=trash) as of_run:
            make_directory(kind, at=of_run, mode=0o700)
            with open_directory(kind, at=of_run) as bin_, open_directory(FOLDERS[kind], at=folder.descriptor) as place:
                reached(Milestone.REMOVAL_BIN_MADE)
                rename_new(name, name, source_at=place, target_at=bin_)
                reached(Milestone.REMOVAL_MOVED)
                _follow(kind, name, source_at=place, target_at=bin_)
                reached(Milestone.REMOVAL_FOLLOWED)


def bring_back(folder: HostFolder, trashed: Trashed) -> None:
    """Move a restore point from the trash to where it was, durably.

    Raises PointHalfGone, PointInUse (it is being purged) and OSError; then it stays in the trash.
    """
    with (
        for_purge(folder, trashed) as bin_,
        open_directory(FOLDERS[trashed.kind], at=folder.descriptor) as place,
    ):
        if not _is_marked(trashed, bin_):
            raise PointHalfGone(f"Purging {trashed.key} has begun.", "It cannot be brought back.")
        if trashed.name in os.listdir(place):  # a younger archive of this name keeps its own record
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), trashed.name)
        reached(Milestone.UNDELETE_ALONE)
        # The record first: without the file it makes nothing complete, and the file never stands there without it.
        _follow(trashed.kind, trashed.name, source_at=bin_, target_at=place)
        reached(Milestone.UNDELETE_FOLLOWED)
        rename_new(trashed.name, trashed.name, source_at=bin_, target_at=place)
        reached(Milestone.UNDELETE_MOVED)


def contents(folder: HostFolder, *, finish_moves: bool = True) -> list[Trashed]:
    """What lies in the trash, oldest run first.

    Moves and purges that were cut short are finished on the way, if wanted: only by who has the lock of the retention.
    """
    found = []
    with open_directory(TRASH, at=folder.descriptor) as trash:
        for entry in sorted(os.listdir(trash)):
            try:
                run = UUID(entry)
            except ValueError:
                continue  # not ours
            with suppress(NotADirectoryError), open_directory(entry, at=trash) as of_run:
                lying = _of_run(folder, run, of_run, finish_moves)
                found += lying
                if finish_moves and not lying:
                    tidy(folder, run)  # a run that died before its first move, or after its last purge
    return found


def _of_run(folder: HostFolder, run: UUID, of_run: int, finish_moves: bool) -> list[Trashed]:
    found = []
    for kind in Kind:
        with suppress(FileNotFoundError, NotADirectoryError), open_directory(kind, at=of_run) as bin_:
            lying = sorted(os.listdir(bin_))
            for name in lying:
                if kind is Kind.ARCHIVE and (name.startswith(".") or name.endswith(CHECKSUM_SUFFIX)):
                    continue
                if finish_moves:
                    _finish_move(folder, kind, name, bin_, lying)
                found.append(Trashed(run, kind, name))
    return found


def _finish_move(folder: HostFolder, kind: Kind, name: str, bin_: int, lying: Sequence[str]) -> None:
    with open_directory(FOLDERS[kind], at=folder.descriptor) as place:
        if name not in os.listdir(place):  # a younger archive of this name keeps its own record
            _follow(kind, name, source_at=place, target_at=bin_, there=lying)


def unmark(folder: HostFolder, trashed: Trashed) -> None:
    """Take the marker from a point that is about to be purged: half removed, it must not look complete."""
    with _bin(folder, trashed) as bin_:
        if trashed.kind is Kind.ARCHIVE:
            _remove_file(record_name(trashed.name), at=bin_)
        else:
            with open_directory(trashed.name, at=bin_) as tree:
                _remove_file(MARKER_FILE, at=tree)


def _is_marked(trashed: Trashed, bin_: int) -> bool:
    if trashed.kind is Kind.ARCHIVE:
        return record_name(trashed.name) in os.listdir(bin_)
    with open_directory(trashed.name, at=bin_) as tree:
        return MARKER_FILE in os.listdir(tree)


def remove_archive(folder: HostFolder, trashed: Trashed) -> int:
    """Remove an archive of the trash and what belongs to it; returns how many files went."""
    with _bin(folder, trashed) as bin_:
        names = (*parts_of(trashed.name), trashed.name)
        return sum(_remove_file(name, at=bin_) for name in names)


def tidy(folder: HostFolder, run: UUID) -> None:
    """Remove the directories of a run in the trash when nothing is in them any more."""
    with open_directory(TRASH, at=folder.descriptor) as trash:
        try:
            with open_directory(str(run), at=trash) as of_run:
                for kind in Kind:
                    _remove_empty(kind, at=of_run)
            _remove_empty(str(run), at=trash)
        except FileNotFoundError:
            return


@contextmanager
def for_purge(folder: HostFolder, trashed: Trashed) -> Iterator[int]:
    """The directory that a trashed point lies in, while nobody reads the point. Raises PointInUse."""
    with _bin(folder, trashed) as bin_, _locked(trashed.name, at=bin_):
        yield bin_


@contextmanager
def _bin(folder: HostFolder, trashed: Trashed) -> Iterator[int]:
    with (
        open_directory(TRASH, at=folder.descriptor) as trash,
        open_directory(str(trashed.run), at=trash) as of_run,
        open_directory(trashed.kind, at=of_run) as bin_,
    ):
        yield bin_


@contextmanager
def _locked(name: str, *, at: int) -> Iterator[None]:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PointInUse(f"{name} is being read by somebody.", "Try again when that is done.") from error
        yield
    finally:
        os.close(descriptor)


def _follow(kind: Kind, name: str, *, source_at: int, target_at: int, there: Sequence[str] = ()) -> None:
    """Bring what belongs to an archive to where the archive is; what is `there` already is its own."""
    if kind is not Kind.ARCHIVE:
        return
    for part in parts_of(name):
        if part not in there:
            with suppress(FileNotFoundError):
                filesystem.rename_over(part, part, source_at=source_at, target_at=target_at)


def _remove_file(name: str, *, at: int) -> int:
    try:
        os.unlink(name, dir_fd=at)
    except FileNotFoundError:
        return 0
    os.fsync(at)
    return 1


def _remove_empty(name: str, *, at: int) -> None:
    try:
        os.rmdir(name, dir_fd=at)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.ENOENT}:
            raise
