"""The restore points of a host on their way to another drive: beside its folders there until all of them are right.

<target>/<host>/.moving/move.json    from which store; there from the first byte until the log knows of the move
<target>/<host>/.moving/tree/…       the copies: hourly, archives, monthly, .trash
<target>/<host>/.moving/*.db         what was copied, and what was compared
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Final
from uuid import UUID

import msgspec

from shared.adapters import filesystem
from shared.adapters.filesystem import make_directory, open_directory, read_small_file, rename_over, write_new_file
from shared.adapters.restore_points import TRASH
from shared.adapters.store import HostFolder
from shared.adapters.tree_compare import Comparison
from shared.adapters.tree_copy import Copier, Known
from shared.domain.errors import StoreRefused

MOVING: Final = ".moving"
RECORD: Final = "move.json"
TREE: Final = "tree"
MOVED: Final = ("hourly", "archives", "monthly", TRASH)
"""The folders of a host that go along. Locks and the spool belong to the drive."""

DEPTH_OF_POINTS: Final = 2
"""Below the trash of a run: <kind>/<name>, and what is at the top of it."""

Look = Callable[[int], None]


class MoveRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From which drive the copies are."""

    source: UUID


class Move:
    """The copies of one host's restore points, as far as they are. The caller holds the host's locks on both drives."""

    def __init__(self, source: HostFolder, target: HostFolder) -> None:
        self._source = source
        self._target = target
        self._place = target.path / MOVING

    def begin(self, source_uuid: UUID) -> None:
        """Make ready to copy, or go on with what a move that was stopped left. Raises StoreRefused and OSError."""
        if MOVING not in os.listdir(self._target.descriptor):
            self._refuse_others(set())
            make_directory(MOVING, at=self._target.descriptor, mode=0o700)
        with open_directory(MOVING, at=self._target.descriptor) as moving:
            names = os.listdir(moving)
            if RECORD not in names:
                self._refuse_others(set())
                write_new_file(RECORD, msgspec.json.encode(MoveRecord(source_uuid)), at=moving)
            record = msgspec.json.decode(read_small_file(RECORD, at=moving, limit_bytes=4096), type=MoveRecord)
            if record.source != source_uuid:
                raise StoreRefused(
                    f"{self._place} is what another move left, from the drive {record.source}.",
                    "Look at it, and move it away by hand.",
                )
            make_directory(TREE, at=moving, mode=0o700)
            with open_directory(TREE, at=moving) as tree:
                self._take_back(tree)

    def _take_back(self, tree: int) -> None:
        """What was put in its place although the log never heard of it goes back to the other copies."""
        placed = [name for name in MOVED if name not in os.listdir(tree)]
        with closing(Known(self._place / "copied.db")) as known:
            done = {os.fsdecode(path) for path in known.done()}
        self._refuse_others(done)
        for name in placed:
            if self._listed(name):
                rename_over(name, name, source_at=self._target.descriptor, target_at=tree)
            make_directory(name, at=tree, mode=_mode(name))
            make_directory(name, at=self._target.descriptor, mode=_mode(name))

    def _refuse_others(self, ours: set[str]) -> None:
        """What is there and was not copied by this move is never touched."""
        for name in MOVED:
            for entry in self._listed(name):
                if f"{name}/{entry}" not in ours:
                    raise StoreRefused(
                        f"{self._target.path / name} has something already: {os.fsencode(entry)!r}.",
                        "It is of another time; look at it, and move it away by hand.",
                    )

    def _listed(self, name: str) -> list[str]:
        try:
            with open_directory(name, at=self._target.descriptor) as folder:
                return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []

    def copy(self, look: Look) -> int:
        """Copy what is not copied yet; returns how many entries of the folders there are. Raises OSError."""
        with self._tree() as tree, closing(Known(self._place / "copied.db")) as known:
            copier = Copier(self._source.descriptor, tree, known, look)
            try:
                count = sum(self._copy_folder(name, tree, known, copier) for name in MOVED)
                for name in MOVED:  # last: what is copied may share files with what is not wanted any more
                    self._remove_gone(name, tree, known)
                filesystem.sync_filesystem(tree)  # opened before the first write
            finally:
                copier.close()
        return count

    def _copy_folder(self, name: str, tree: int, known: Known, copier: Copier) -> int:
        wanted, done = self._of_source(name), known.done()
        with open_directory(name, at=tree) as folder:
            for entry in os.listdir(folder):
                path = f"{name}/{entry}"
                if os.fsencode(path) not in done or (name == TRASH and not self._is_as_it_was(path, tree)):
                    known.forget(os.fsencode(path))  # half a copy, or of something that was half purged since
                    filesystem.remove_entry(entry, at=folder)
            there = set(os.listdir(folder))
        for entry in sorted(set(wanted) - there):
            copier.copy(f"{name}/{entry}")
            known.finish(os.fsencode(f"{name}/{entry}"))
        return len(wanted)

    def _is_as_it_was(self, path: str, tree: int) -> bool:
        return _names_below(path, self._source.descriptor) == _names_below(path, tree)

    def _remove_gone(self, name: str, tree: int, known: Known) -> None:
        """Remove the copies of what went on the old drive since a move that was stopped."""
        wanted = set(self._of_source(name))
        with open_directory(name, at=tree) as folder:
            for entry in set(os.listdir(folder)) - wanted:
                known.forget(os.fsencode(f"{name}/{entry}"))
                filesystem.remove_entry(entry, at=folder)

    def _of_source(self, name: str) -> list[str]:
        with open_directory(name, at=self._source.descriptor) as folder:
            return os.listdir(folder)

    def compare(self, look: Look) -> int:
        """Compare all copies with the originals; returns the number of entries. Raises CopyDiffers and OSError."""
        with (
            self._tree() as tree,
            closing(Comparison(self._source.descriptor, tree, self._place / "compared.db", look)) as comparison,
        ):
            return sum(comparison.compare(name) for name in MOVED)

    def discard(self) -> None:
        """Remove all copies that are not in their place: one of them is wrong, and others may share its files."""
        with open_directory(MOVING, at=self._target.descriptor) as moving:
            filesystem.remove_tree(TREE, at=moving)
            os.unlink("copied.db", dir_fd=moving)

    def place(self) -> None:
        """Put the copies in their places, durably; until the log knows of it, `begin` takes them back."""
        with self._tree() as tree:
            for name in MOVED:
                rename_over(name, name, source_at=tree, target_at=self._target.descriptor)

    def finish(self) -> None:
        """Remove what is only needed on the way; the record goes first."""
        if MOVING in os.listdir(self._target.descriptor):
            with open_directory(MOVING, at=self._target.descriptor) as moving:
                if RECORD in os.listdir(moving):
                    os.unlink(RECORD, dir_fd=moving)
                    os.fsync(moving)
            filesystem.remove_tree(MOVING, at=self._target.descriptor)

    @contextmanager
    def _tree(self) -> Iterator[int]:
        with open_directory(MOVING, at=self._target.descriptor) as moving, open_directory(TREE, at=moving) as tree:
            yield tree


def _names_below(path: str, at: int, depth: int = DEPTH_OF_POINTS) -> dict[str, object] | None:
    """What is in the points of a run's trash, without looking deeper; None when there is nothing of the kind."""
    try:
        with open_directory(path, at=at) as folder:
            names = os.listdir(folder)
            return {name: _names_below(name, folder, depth - 1) if depth else None for name in names}
    except (FileNotFoundError, NotADirectoryError):
        return None


def _mode(name: str) -> int:
    return 0o700 if name.startswith(".") else 0o755
