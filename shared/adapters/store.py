"""A backup drive: how it is recognised, and what lies where on it (DESIGN section 6).

BACKUP_ROOT/.backup-root.json            which store this is
BACKUP_ROOT/<host>/hourly/<slot>/        a snapshot; complete when .snapshot_complete is in it
BACKUP_ROOT/<host>/current, latest       links to the newest complete and the newest usable snapshot
BACKUP_ROOT/<host>/.partial-<run>/       a run under way or dead
BACKUP_ROOT/<host>/.locks/, .spool/      who works here; events that wait for the log
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from shared.adapters import filesystem
from shared.adapters.filesystem import FileLock, open_directory
from shared.adapters.markers import Marker, StoredSnapshot, complete_tree, read_snapshot
from shared.adapters.milestones import Milestone, reached
from shared.domain.errors import NameRefused, StoreNotMounted, StoreRefused
from shared.domain.events import Job, Quality
from shared.domain.names import HostName, SnapshotName, StoreName, parse_host_name
from shared.domain.room import Room

IDENTITY_FILE: Final = ".backup-root.json"
PARTIAL_PREFIX: Final = ".partial-"

HOST_FOLDERS: Final = ("hourly", "archives", "monthly", ".locks", ".spool", ".trash")
MASKED_FOLDERS: Final = ("archives", "monthly", ".locks", ".spool", ".trash")
"""What the confined receiver of a host does not see although it lies in the host's folder."""


class Identity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which store a drive is."""

    name: StoreName
    uuid: UUID
    format: int = 1


class Store:
    """A store that is mounted here. Its directory is held open: it cannot be swapped unnoticed."""

    def __init__(self, root: Path, descriptor: int, identity: Identity) -> None:
        self.root = root
        self.identity = identity
        self.descriptor = descriptor

    @classmethod
    def open(cls, root: Path, name: StoreName) -> Store:
        """The store of this name, mounted at root. Raises StoreRefused, having written nothing."""
        store = cls.open_to_read(root, name)
        try:
            store.check()
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def open_to_read(cls, root: Path, name: StoreName) -> Store:
        """The same of a store that may be mounted read-only. Raises StoreRefused."""
        try:
            descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StoreNotMounted(name, f"{root} cannot be opened: {error.strerror}", _MOUNT_IT) from error
        try:
            identity = _read_identity(root, name, descriptor)
            if identity.name != name:
                raise StoreRefused(f"{root} is the store {identity.name!r}, not {name!r}.", "Mount the right drive.")
        except BaseException:
            os.close(descriptor)
            raise
        return cls(root, descriptor, identity)

    @classmethod
    def create(cls, root: Path, name: StoreName, uuid: UUID) -> Store:
        """Make an empty directory a store. Raises StoreRefused when it holds anything already."""
        try:
            with open_directory(root) as descriptor:
                held = sorted(set(os.listdir(descriptor)) - {"lost+found"})
                if IDENTITY_FILE in held:
                    identity = _read_identity(root, name, descriptor)
                    raise StoreRefused(f"{root} is the store {identity.name!r} already.", "Nothing is to be done.")
                if held:
                    raise StoreRefused(
                        f"{root} is not empty: it holds {held[0]!r}.", "Use an empty directory of the backup drive."
                    )
                content = msgspec.json.encode(Identity(name, uuid))
                filesystem.write_new_file(IDENTITY_FILE, content, at=descriptor)
        except OSError as error:
            raise StoreRefused(f"{root} cannot become a store: {error.strerror}.", _MOUNT_IT) from error
        return cls.open(root, name)

    def close(self) -> None:
        """Let go of the directory."""
        os.close(self.descriptor)

    def check(self) -> None:
        """Make sure that the same writable store is still mounted there. Raises StoreRefused."""
        try:
            now, held = self.root.stat(), os.fstat(self.descriptor)
        except OSError as error:
            raise StoreNotMounted(self.identity.name, f"{self.root} is gone: {error.strerror}", _MOUNT_IT) from error
        if (now.st_dev, now.st_ino) != (held.st_dev, held.st_ino):
            raise StoreRefused(f"Something else is now mounted at {self.root}.", _MOUNT_IT)
        if _read_identity(self.root, self.identity.name, self.descriptor) != self.identity:
            raise StoreRefused(f"{self.root} has become another store.", _MOUNT_IT)
        if os.fstatvfs(self.descriptor).f_flag & os.ST_RDONLY:
            raise StoreRefused(f"{self.root} is mounted read-only.", "Remount it read-write.")
        if not os.access(f"/proc/self/fd/{self.descriptor}", os.W_OK | os.X_OK):
            raise StoreRefused(f"{self.root} cannot be written by this user.", "Change its owner or run as its owner.")

    def room(self) -> Room:
        """What the drive has, and what of it this user may still take."""
        found = os.fstatvfs(self.descriptor)
        return Room(
            total_bytes=found.f_blocks * found.f_frsize,
            free_bytes=found.f_bavail * found.f_frsize,
            total_inodes=found.f_files,
            # btrfs and others make inodes as they go, and say 0.
            free_inodes=found.f_favail if found.f_files else None,
        )

    def hosts(self) -> list[HostName]:
        """The hosts that have a folder here."""
        names = []
        for entry in sorted(os.listdir(self.descriptor)):
            try:
                name = parse_host_name(entry)
            except NameRefused:
                continue  # lost+found and whatever a person put beside the hosts is not ours
            if stat.S_ISDIR(os.stat(entry, dir_fd=self.descriptor, follow_symlinks=False).st_mode):
                names.append(name)
        return names

    def folder(self, host: HostName) -> HostFolder:
        """The host's folder, made when it is not there. Raises StoreRefused."""
        self.check()
        try:
            filesystem.make_directory(host, at=self.descriptor)
            descriptor = os.open(
                host, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.descriptor
            )
        except OSError as error:
            raise StoreRefused(f"The folder of {host} cannot be made: {error.strerror}.") from error
        try:
            for name in HOST_FOLDERS:
                filesystem.make_directory(name, at=descriptor, mode=0o700 if name.startswith(".") else 0o755)
        except OSError as error:
            os.close(descriptor)
            raise StoreRefused(f"The folder of {host} cannot be made: {error.strerror}.") from error
        return HostFolder(self.root / host, descriptor, host)

    def existing_folder(self, host: HostName) -> HostFolder:
        """The host's folder, only to be looked at. Raises OSError when there is none."""
        descriptor = os.open(host, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.descriptor)
        return HostFolder(self.root / host, descriptor, host)


class HostFolder:
    """What a store keeps of one host."""

    def __init__(self, path: Path, descriptor: int, host: HostName) -> None:
        self.path = path
        self.descriptor = descriptor
        self.host = host

    def __enter__(self) -> HostFolder:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    @contextmanager
    def locked(self, job: Job) -> Iterator[FileLock]:
        """Hold the lock of this host and job. Raises HostBusy."""
        with open_directory(".locks", at=self.descriptor) as locks:
            lock = FileLock.acquire(job, at=locks, wanted_by=f"{job} of {self.host}")
        try:
            yield lock
        finally:
            lock.release()

    def snapshots(self) -> list[StoredSnapshot]:
        """The complete snapshots, oldest first."""
        if "hourly" not in os.listdir(self.descriptor):
            return []
        with open_directory("hourly", at=self.descriptor) as hourly:
            found = [read_snapshot(name, at=hourly) for name in sorted(os.listdir(hourly))]
        return [snapshot for snapshot in found if snapshot is not None]

    def has_snapshot(self, name: SnapshotName) -> bool:
        """Whether the snapshot of this name is complete."""
        with open_directory("hourly", at=self.descriptor) as hourly:
            return read_snapshot(name, at=hourly) is not None

    def make_partial(self, run: UUID) -> Path:
        """A fresh directory for a run. Raises FileExistsError: no directory is ever used twice."""
        name = f"{PARTIAL_PREFIX}{run}"
        os.mkdir(name, 0o700, dir_fd=self.descriptor)
        return self.path / name

    def remove_partials(self) -> int:
        """Remove the trees of dead runs; returns how many there were. The caller holds the lock."""
        partials = [name for name in os.listdir(self.descriptor) if name.startswith(PARTIAL_PREFIX)]
        for name in partials:
            filesystem.remove_tree(name, at=self.descriptor)
        return len(partials)

    def complete(self, run: UUID, marker: Marker, upto: datetime | None = None) -> None:
        """Turn a run's synced tree into a snapshot, durably. Raises OSError; then it is not a snapshot.

        `upto` is for the links, see point_links.

        The order is the promise: everything the marker vouches for is on the drive before the marker is, and the
        marker before the name (the caller has synced the file system).
        """
        with open_directory("hourly", at=self.descriptor) as hourly:
            complete_tree(
                f"{PARTIAL_PREFIX}{run}", marker.event.snapshot, marker, source_at=self.descriptor, target_at=hourly
            )
        self.point_links(upto)

    def point_links(self, upto: datetime | None = None) -> None:
        """Point `current` to the newest complete snapshot and `latest` to the newest one that is not suspect.

        With `upto`, whatever is dated later counts only where there is nothing else: a clock was wrong then, and
        both links would show that snapshot until its date has come.
        """
        kept = [snapshot for snapshot in self.snapshots() if snapshot.quality is not Quality.SUSPECT]
        usable = [snapshot for snapshot in kept if upto is None or snapshot.marker.event.slot <= upto] or kept
        complete = [snapshot for snapshot in usable if snapshot.quality is Quality.COMPLETE]
        for link, candidates in (("current", complete), ("latest", usable)):
            if candidates and self.link_target(link) != (target := f"hourly/{candidates[-1].name}"):
                filesystem.replace_symlink(link, target, at=self.descriptor)
                reached(Milestone.LINK_SET)

    def link_target(self, name: str) -> str | None:
        """Where `current` or `latest` points, or None."""
        try:
            return os.readlink(name, dir_fd=self.descriptor)
        except FileNotFoundError:
            return None


def _read_identity(root: Path, name: StoreName, descriptor: int) -> Identity:
    try:
        content = filesystem.read_small_file(IDENTITY_FILE, at=descriptor, limit_bytes=4096)
        return msgspec.json.decode(content, type=Identity)
    except FileNotFoundError as error:
        raise StoreNotMounted(
            name,
            f"{root} is not a store: it has no {IDENTITY_FILE}",
            "Is the drive mounted? A new, empty drive becomes a store by `backup-manager init`.",
        ) from error
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StoreRefused(f"{root / IDENTITY_FILE} cannot be read: {error}.", "Restore it from a copy.") from error


_MOUNT_IT: Final = "Mount the backup drive there, or ask on the machine that has it."
