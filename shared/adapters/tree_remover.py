"""The half of a `tree_worker` that removes a tree."""

from __future__ import annotations

import errno
import os

from shared.adapters.beneath import Opener, make_searchable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from shared.adapters.tree_worker import Line

MAX_OPEN_DEPTH = 64
"""Deeper directories are moved up before they are removed, so that no tree needs more descriptors than this."""

BATCH = 512
"""So many entries of a large folder are removed before the line is looked at again."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMLINK, errno.EBUSY, errno.EACCES, errno.EPERM})
"""A folder that cannot be moved up to be given away is removed where it is, or fails there."""


class Folder:
    """A directory that is being emptied: its name in the one above, and the directories that are still in it."""

    __slots__ = ("descriptor", "folders", "name")

    def __init__(self, descriptor: int, name: str, folders: list[str]) -> None:
        self.descriptor = descriptor
        self.name = name
        self.folders = folders


class Remover:
    """Removes folder after folder, each of them a directory in the top of the tree.

    A directory can only go when everything in it went, also what another process removes. So nothing is given away
    where it is: it is moved to the top first, and whoever takes it answers for all of it.
    """

    def __init__(self, top: int, line: Line) -> None:
        self._top = top
        self._line = line
        self._opener = Opener()
        self._way: list[Folder] = []
        self.counts = [0]

    def run(self) -> None:
        """Work until there is nothing left. Raises OSError that names the entry below the top."""
        folder = self._line.first_folder()
        while True:
            folders = [folder] if folder else self._remove_files(self._top)
            self._way = [Folder(self._top, "", folders)]
            try:
                self._walk(self._way)
            except OSError as error:
                names = [folder.name for folder in self._way[1:]]
                error.filename = "/".join([*names, os.fsdecode(error.filename or "")])
                raise
            folder = self._line.next_folder(self.counts)

    def _walk(self, way: list[Folder]) -> None:
        while True:
            folder = way[-1]
            if not folder.folders:
                if len(way) == 1:
                    return
                os.close(folder.descriptor)
                del way[-1]
                os.rmdir(folder.name, dir_fd=way[-1].descriptor)
                self.counts[0] += 1
            elif len(way) > MAX_OPEN_DEPTH:
                name = folder.folders.pop()
                way[0].folders.append(self._move_up(name, folder.descriptor))
            else:
                self._enter(folder.folders.pop(), folder.descriptor)
                if self._line.passed(4):
                    self._give_one()

    def _enter(self, name: str, parent: int) -> None:
        make_searchable(name, at=parent)
        descriptor = self._opener.open(name, parent)
        folder = Folder(descriptor, name, [])
        self._way.append(folder)
        folder.folders = self._remove_files(descriptor)

    def _remove_files(self, directory: int) -> list[str]:
        """Remove everything but directories, whose names are returned.

        The kernel says for free that something is a directory; asking for each entry costs a tenth of the time.
        """
        unlink, folders = os.unlink, []
        names = os.listdir(directory)
        for start in range(0, len(names), BATCH):
            batch = names[start : start + BATCH] if len(names) > BATCH else names
            for name in batch:
                try:
                    unlink(name, dir_fd=directory)
                except IsADirectoryError:
                    folders.append(name)
            self._line.passed(len(batch))
        self.counts[0] += len(names) - len(folders)
        return folders

    def _give_one(self) -> None:
        """Give away the folder nearest to the top, unless it is the only one there is."""
        if sum(len(folder.folders) for folder in self._way) < 2:
            return
        holder = next(folder for folder in self._way if folder.folders)
        name = holder.folders.pop(0)
        try:
            given = name if holder is self._way[0] else self._move_up(name, holder.descriptor)
        except OSError as error:
            holder.folders.append(name)
            if error.errno not in NO_ROOM:
                raise
        else:
            self._line.give(given)

    def _move_up(self, name: str, parent: int) -> str:
        make_searchable(name, at=parent)
        # A name that nobody can have foreseen: a host may have filled the top with names of its own.
        moved = f".deep-{os.urandom(8).hex()}"
        os.rename(name, moved, src_dir_fd=parent, dst_dir_fd=self._top)
        return moved
