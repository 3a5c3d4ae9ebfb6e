"""Whether a drive keeps the promise: every point whole or gone, nothing half there that looks complete."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from shared.adapters import process
from shared.adapters.markers import CHANGES_FILE, FILES_FILE, MARKER_FILE
from shared.adapters.restore_points import (
    CHECKSUM_SUFFIX,
    FOLDERS,
    ArchiveRecord,
    archives,
    foreign,
    golden_copies,
    record_name,
    remove_unfinished,
)
from shared.adapters.store import HostFolder
from shared.adapters.trash import Trashed, contents
from shared.domain.errors import HostBusy
from shared.domain.events import Job, Kind, Quality
from shared.domain.names import snapshot_name
from tests.faults.drives import NEW_GOLDEN
from tests.faults.protocols import Protocol, place_of
from tests.support.builders import SLOT
from tests.support.trees import Tree, differences, snapshot_of

WITHIN_SECONDS: Final = 20.0
_RUN: Final = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def without_marker(path: bytes) -> bool:
    """The marker tells of a run: two copies of one tree have two."""
    return path == MARKER_FILE.encode()


def files_of(place: Path, archive: str) -> dict[str, bytes]:
    """What there is of an archive in a place."""
    names = (archive, archive + CHECKSUM_SUFFIX, record_name(archive))
    return {name: (place / name).read_bytes() for name in names if (place / name).exists()}


def points(folder: HostFolder) -> set[tuple[Kind, str]]:
    """Whatever bears a marker under its name."""
    return {
        *((Kind.SNAPSHOT, snapshot.name) for snapshot in folder.snapshots()),
        *((Kind.ARCHIVE, archive.name) for archive in archives(folder)),
        *((Kind.GOLDEN, copy.name) for copy in golden_copies(folder)),
    }


@dataclass(frozen=True, slots=True)
class Judge:
    """Knows a drive as it was before a protocol, and what the protocol may do to it."""

    protocol: Protocol
    trees: dict[tuple[Kind, str], Tree]
    packed: dict[str, dict[str, bytes]]
    members: int

    @classmethod
    def of(cls, protocol: Protocol, folder: HostFolder) -> Judge:
        """Learn the drive, with its victim in place."""
        trees = {
            point: snapshot_of(place_of(folder, *point)) for point in points(folder) if point[0] is not Kind.ARCHIVE
        }
        packed = {archive.name: files_of(folder.path / "archives", archive.name) for archive in archives(folder)}
        source = trees[Kind.SNAPSHOT, snapshot_name(SLOT)]
        return cls(protocol, trees, packed, sum(path.startswith(b"home") for path in source.entries))

    def learn(self, folder: HostFolder) -> None:
        """Take what the protocol made, undisturbed, for what it has to make."""
        kind, name = self.protocol.victim
        if kind is not Kind.ARCHIVE and self.protocol.comes:
            self.trees[kind, name] = snapshot_of(place_of(folder, kind, name))

    def now(self, folder: HostFolder) -> Iterator[str]:
        """What is wrong at any moment, before anybody has cleared up."""
        there = points(folder)
        for point in sorted((set(self.trees) | {(Kind.ARCHIVE, name) for name in self.packed}) - there):
            if point != self.protocol.victim:
                yield f"{point} is no restore point any more"
        for kind, name in sorted(there):
            yield from self._whole(kind, name, folder.path / FOLDERS[kind])
        for run in (folder.path / ".trash").iterdir():
            for kind in Kind:
                for lying in sorted(os.listdir(run / kind)) if (run / kind).exists() else ():
                    if self._is_marked(kind, run / kind, lying):
                        yield from self._whole(kind, lying, run / kind)
        current = folder.link_target("current")
        quality = {f"hourly/{one.name}": one.quality for one in folder.snapshots()}
        if current is None or quality.get(current) is not Quality.COMPLETE:
            yield f"`current` points to {current}, which is not complete"

    def recovered(self, folder: HostFolder) -> Iterator[str]:
        """What is wrong when everybody who clears up has done so."""
        yield from self.now(folder)
        yield from (f"{name} is foreign" for name in foreign(folder))
        yield from (f"{path} was left" for path in folder.path.rglob(".partial-*"))
        kind, name = self.protocol.victim
        here = (kind, name) in points(folder)
        lying = [found for found in contents(folder) if (found.kind, found.name) == (kind, name)]
        bins = [folder.path / ".trash" / str(found.run) / kind for found in lying]
        if here + len(lying) > 1:
            yield f"{name} is in {here + len(lying)} places"
        if place_of(folder, kind, name).exists() and not here:
            yield f"{name} lies in its place without marker"
        whole = here or any(self._is_marked(kind, bin_, name) for bin_ in bins)
        if not whole and not self.protocol.goes and not self.protocol.comes:
            yield f"{name} has lost its marker, or is gone"

    def _is_marked(self, kind: Kind, place: Path, name: str) -> bool:
        if kind is Kind.ARCHIVE:
            return (place / record_name(name)).exists() and (place / name).exists()
        return (place / name / MARKER_FILE).exists()

    def _whole(self, kind: Kind, name: str, place: Path) -> Iterator[str]:
        """What is wrong with something that bears a marker."""
        made = (kind, name) == self.protocol.victim and self.protocol.comes
        if kind is Kind.ARCHIVE:
            yield from self._whole_archive(name, place, made=made)
            return
        wanted = self.trees.get((kind, name))
        if made and (kind, name) == (Kind.GOLDEN, NEW_GOLDEN):
            wanted = self.trees[Kind.SNAPSHOT, snapshot_name(SLOT)]
        if wanted is None:
            return  # the undisturbed run has still to show how it looks
        found = snapshot_of(place / name, exclude=without_marker if made else None)
        if made:
            wanted, found = _of_any_run(wanted), _of_any_run(found)
        yield from (f"{place / name}: {one}" for one in differences(wanted, found, root=not made))

    def _whole_archive(self, name: str, place: Path, *, made: bool) -> Iterator[str]:
        files = files_of(place, name)
        if not made:
            wanted = self.packed[name]
            # Its record and its checksum follow it: what is there is as it was, and the file is.
            yield from (f"{name}: {part} has changed" for part, content in files.items() if wanted[part] != content)
            return
        record = msgspec.json.decode(files[record_name(name)], type=ArchiveRecord)
        digest = hashlib.sha256(files[name]).hexdigest()
        if (digest, len(files[name])) != (record.event.sha256, record.event.size_bytes):
            yield f"{name} is not what its record says"
        if files.get(name + CHECKSUM_SUFFIX) != f"{digest}  {name}\n".encode():
            yield f"{name} has another checksum beside it"
        done = asyncio.run(process.run(["tar", "-tzf", str(place / name)], timeout_seconds=WITHIN_SECONDS))
        if done.returncode != 0 or len(done.said.splitlines()) != self.members:
            yield f"{name} cannot be listed, or has other members than its snapshot: {done.said}"


def _of_any_run(tree: Tree) -> Tree:
    """A tree without what differs from run to run: its marker, and when its lists were written."""
    lists = {FILES_FILE.encode(), CHANGES_FILE.encode()}
    return Tree(
        {
            path: replace(entry, mtime_ns=0) if path in lists else entry
            for path, entry in tree.entries.items()
            if not without_marker(path)
        }
    )


def recover(folder: HostFolder) -> list[Trashed]:
    """Clear up as the services do when they start; each of them has its lock, so whatever still writes has ended."""
    for_whom = ((Job.ARCHIVE, remove_unfinished), (Job.SNAPSHOT, HostFolder.remove_partials))
    for job, clear_up in for_whom:
        with _locked(folder, job):
            clear_up(folder)
    with _locked(folder, Job.SNAPSHOT):
        folder.point_links()
    with _locked(folder, Job.RETENTION):
        return contents(folder)


def _locked(folder: HostFolder, job: Job) -> ExitStack:
    """The lock of a job, as soon as the last process of a run that was killed has ended."""
    until = time.monotonic() + WITHIN_SECONDS
    stack = ExitStack()
    while time.monotonic() < until:
        with suppress(HostBusy):
            stack.enter_context(folder.locked(job))
            return stack
        time.sleep(0.005)
    raise HostBusy(f"Something still works on {job}.")


def nobody_works(folder: HostFolder, job: Job) -> None:
    """Wait until the last process of a run has ended."""
    _locked(folder, job).close()


def shape(folder: HostFolder) -> dict[bytes, tuple[object, ...]]:
    """Everything in the folder of the host, without times and without what depends on the run."""
    tree = snapshot_of(folder.path, exclude=lambda path: path.startswith(b".locks/"))
    made: dict[bytes, tuple[object, ...]] = {}
    for path, entry in tree.entries.items():
        # Records name their run, and an archive tells of the times of the machine it was made on nothing at all.
        tells = path.endswith((MARKER_FILE.encode(), b".json"))
        content = "" if tells else entry.sha256
        bare = _RUN.sub(b"<run>", path)
        while bare in made:
            bare += b" again"  # of another run
        made[bare] = (entry.kind, entry.mode, entry.uid, entry.gid, entry.target, content)
    return made
