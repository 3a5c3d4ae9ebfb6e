"""The restore points of a host on the drive besides its snapshots: archives and golden copies, and what is foreign.

<host>/archives/backup_<host>_<snapshot>.tar.gz       an archive; complete when its record is beside it
                backup_<host>_<snapshot>.tar.gz.sha256   for `sha256sum -c`
                .backup_<host>_<snapshot>.tar.gz.json    the record: the event that says it is complete, and its id
<host>/monthly/2026-03/                               a golden copy; complete when .snapshot_complete is in it
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeVar
from uuid import UUID

import msgspec

from shared.adapters import filesystem
from shared.adapters.filesystem import open_directory
from shared.adapters.markers import MARKER_FILE, MARKER_LIMIT_BYTES, complete_tree
from shared.adapters.milestones import Milestone, reached
from shared.adapters.store import HostFolder
from shared.domain.errors import NameRefused
from shared.domain.events import ArchiveCompleted, GoldenCompleted, Kind
from shared.domain.names import HostName, parse_archive_name, parse_golden_name

FOLDERS: Final = {Kind.SNAPSHOT: "hourly", Kind.ARCHIVE: "archives", Kind.GOLDEN: "monthly"}
"""Where the restore points of a kind lie in the host's folder."""

TRASH: Final = ".trash"
"""Where they lie when they are to go: see trash.py."""

CHECKSUM_SUFFIX: Final = ".sha256"
UNFINISHED: Final = ".partial-"
"""What begins so is of a run under way or dead."""

_NOT_THERE: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.EFBIG}

_Record = TypeVar("_Record", bound=msgspec.Struct)


class ArchiveRecord(msgspec.Struct, frozen=True):
    """What makes an archive complete: the event that says so, under the id it has in the log."""

    id: UUID
    event: ArchiveCompleted


class GoldenRecord(msgspec.Struct, frozen=True):
    """What makes a golden copy complete."""

    id: UUID
    event: GoldenCompleted


@dataclass(frozen=True, slots=True)
class StoredArchive:
    """A complete archive on the drive. `found_bytes` is its length now: less than recorded means truncated."""

    name: str
    record: ArchiveRecord
    found_bytes: int

    @property
    def damage(self) -> str:
        """What is wrong with it at first sight; nothing when it has the length it should have."""
        expected = self.record.event.size_bytes
        if self.found_bytes == expected:
            return ""
        return f"archive {self.name} has {self.found_bytes:,} bytes instead of {expected:,}"


@dataclass(frozen=True, slots=True)
class StoredGolden:
    """A complete golden copy on the drive."""

    name: str
    record: GoldenRecord


def record_name(archive: str) -> str:
    """The file that holds the record of an archive."""
    return f".{archive}.json"


def parts_of(archive: str) -> tuple[str, str]:
    """The files that belong to an archive: its record, and its checksum."""
    return record_name(archive), archive + CHECKSUM_SUFFIX


def archives(folder: HostFolder) -> list[StoredArchive]:
    """The complete archives, oldest first. Raises OSError when the drive fails."""
    if not (names := _listed(folder, "archives")):
        return []
    with open_directory("archives", at=folder.descriptor) as place:
        found = [read_archive(name, folder.host, at=place) for name in names]
    return [archive for archive in found if archive is not None]


def read_archive(name: str, host: HostName, *, at: int) -> StoredArchive | None:
    """The archive of this name, or None when it is not a complete one."""
    try:
        snapshot = parse_archive_name(name, host)
        status = os.stat(name, dir_fd=at, follow_symlinks=False)
    except (NameRefused, FileNotFoundError):
        return None
    record = _read_record(record_name(name), ArchiveRecord, at=at)
    if record is None or not stat.S_ISREG(status.st_mode) or record.event.archive != name:
        return None
    return StoredArchive(name, record, status.st_size) if record.event.snapshot == snapshot else None


def golden_copies(folder: HostFolder) -> list[StoredGolden]:
    """The complete golden copies, oldest first. Raises OSError when the drive fails."""
    if not (names := _listed(folder, "monthly")):
        return []
    with open_directory("monthly", at=folder.descriptor) as place:
        found = [read_golden(name, at=place) for name in names]
    return [golden for golden in found if golden is not None]


def read_golden(name: str, *, at: int) -> StoredGolden | None:
    """The golden copy of this name, or None when it is not a complete one."""
    try:
        parse_golden_name(name)
        with open_directory(name, at=at) as tree:
            record = _read_record(MARKER_FILE, GoldenRecord, at=tree)
    except NameRefused:
        return None
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
        return None
    return StoredGolden(name, record) if record is not None and record.event.golden == name else None


def foreign(folder: HostFolder) -> list[str]:
    """What lies among the restore points and is none: to be reported, never counted, never removed."""
    ours: dict[Kind, set[str]] = {
        Kind.SNAPSHOT: {snapshot.name for snapshot in folder.snapshots()},
        Kind.ARCHIVE: {
            name
            for archive in archives(folder)
            for name in (archive.name, archive.name + CHECKSUM_SUFFIX, record_name(archive.name))
        },
        Kind.GOLDEN: {golden.name for golden in golden_copies(folder)},
    }
    return [
        f"{place}/{name}"
        for kind, place in FOLDERS.items()
        for name in _listed(folder, place)
        if name not in ours[kind] and not name.startswith(UNFINISHED)
    ]


def _listed(folder: HostFolder, place: str) -> list[str]:
    try:
        with open_directory(place, at=folder.descriptor) as descriptor:
            return sorted(os.listdir(descriptor))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read_record(name: str, kind: type[_Record], *, at: int) -> _Record | None:
    try:
        content = filesystem.read_small_file(name, at=at, limit_bytes=MARKER_LIMIT_BYTES)
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise  # the drive is failing: that is not the same as "there is none"
        return None


def complete_archive(folder: HostFolder, partial: str, record: ArchiveRecord) -> None:
    """Give a finished, synced archive its checksum file, its record and then its name, durably. Raises OSError.

    The caller has the lock.
    """
    event = record.event
    with open_directory("archives", at=folder.descriptor) as place:
        checksum = f"{event.sha256}  {event.archive}\n".encode()
        try:
            filesystem.write_new_file(event.archive + CHECKSUM_SUFFIX, checksum, at=place)
            reached(Milestone.ARCHIVE_CHECKSUM_WRITTEN)
            filesystem.write_new_file(record_name(event.archive), msgspec.json.encode(record), at=place)
            reached(Milestone.ARCHIVE_RECORD_WRITTEN)
            filesystem.rename_new(partial, event.archive, source_at=place, target_at=place)
            reached(Milestone.ARCHIVE_NAMED)
        except OSError:
            with suppress(OSError):
                remove_unfinished(folder)  # a full drive gets back at once what this took
            raise


def complete_golden(folder: HostFolder, partial: str, record: GoldenRecord) -> None:
    """Give a linked, synced copy its marker and then its name, durably. Raises OSError.

    The marker is written among the archives and moved: who makes golden copies may write into no file where they are.
    """
    with (
        open_directory("monthly", at=folder.descriptor) as place,
        open_directory("archives", at=folder.descriptor) as desk,
    ):
        try:
            complete_tree(partial, record.event.golden, record, source_at=place, target_at=place, desk=desk)
        except OSError:
            with suppress(OSError):
                os.unlink(partial, dir_fd=desk)
            raise


def remove_unfinished(folder: HostFolder) -> int:
    """Remove what dead runs left among archives and golden copies; returns how many things. The caller has the lock.

    A record whose archive never got its name is such a thing too. One whose archive lies in the trash belongs to it
    and follows it there.
    """
    removed = 0
    for place_name in ("archives", "monthly"):
        with open_directory(place_name, at=folder.descriptor) as place:
            names = set(os.listdir(place))
            left = {name for name in names if name.startswith(UNFINISHED)}
            if place_name == "archives":
                left |= _orphaned(folder, names, place)
            for name in sorted(left):
                filesystem.remove_entry(name, at=place)
            removed += len(left)
    return removed


def _orphaned(folder: HostFolder, names: set[str], place: int) -> set[str]:
    """The records and checksums of archives that are nowhere."""
    owners = {name: owner for name in names if (owner := _owner(name, folder.host)) is not None and owner not in names}
    if not owners:
        return set()
    # The retention may move an archive at this moment, there or back: it is looked for there and then here again.
    missed = _missed_in_trash(folder)
    here = set(os.listdir(place))
    return {name for name, owner in owners.items() if name not in missed and owner not in here}


def _missed_in_trash(folder: HostFolder) -> set[str]:
    """The records and checksums that have not followed their archives yet."""
    missed: set[str] = set()
    with suppress(FileNotFoundError), open_directory(TRASH, at=folder.descriptor) as trash:
        for run in os.listdir(trash):
            with (
                suppress(FileNotFoundError, NotADirectoryError),
                open_directory(run, at=trash) as of_run,
                open_directory(Kind.ARCHIVE, at=of_run) as bin_,
            ):
                lying = set(os.listdir(bin_))
                missed.update(part for name in lying for part in parts_of(name) if part not in lying)
    return missed


def _owner(name: str, host: HostName) -> str | None:
    """The archive that a file belongs to, when it has the name of a record or a checksum."""
    bare = name.removesuffix(CHECKSUM_SUFFIX) if name.endswith(CHECKSUM_SUFFIX) else name[1:].removesuffix(".json")
    if name not in {bare + CHECKSUM_SUFFIX, record_name(bare)}:
        return None
    try:
        parse_archive_name(bare, host)
    except NameRefused:
        return None
    return bare
