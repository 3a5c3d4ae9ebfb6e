"""The half of a `tree_worker` that makes a hard-link copy of a tree."""

from __future__ import annotations

import errno
import os

from shared.adapters.beneath import Descent, Opener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from shared.adapters.tree_worker import Line

BATCH = 512
"""So many entries of a large folder are linked before the line is looked at again."""

REFUSED = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
"""What file systems say that do not hard-link symbolic links."""


class Linker:
    """Links folder after folder. A folder is known by its path; the one in the target is there and empty.

    Folders depend on nothing but that, so any of them can be given away. One large folder is never split: the kernel
    locks a directory while it changes it, and two processes in one were measured to be no faster than one.
    """

    def __init__(self, source: int, target: int, line: Line, skip: frozenset[str]) -> None:
        self._line = line
        self._skip = skip
        self._sources = Descent(source, Opener(quiet=True))
        self._targets = Descent(target, Opener())
        self._pending: list[str] = []
        self.counts = [0, 0, 0, 0]  # files, directories, symlinks, others

    def run(self) -> None:
        """Work until there is nothing left. Raises OSError that names the entry below the top."""
        folder = self._line.first_folder()
        while True:
            self._pending = [folder]
            while self._pending:
                self._link_folder(self._pending.pop())
                if self._line.passed(4) and len(self._pending) > 1 and self._line.give(self._pending[0]):
                    del self._pending[0]
            folder = self._line.next_folder(self.counts)

    def _link_folder(self, path: str) -> None:
        source = self._sources.open(path)
        try:
            target = self._targets.open(path)
            try:
                self._link_entries(path, source, target)
                if path:  # the top is the caller's, with attributes of its own
                    copy_attributes(source, target)
            finally:
                os.close(target)
        except OSError as error:
            error.filename = path + "/" + os.fsdecode(error.filename or "") if path else error.filename
            raise
        finally:
            os.close(source)

    def _link_entries(self, path: str, source: int, target: int) -> None:
        prefix = path + "/" if path else ""
        skip = self._skip if not path else ()
        link, done, reported = os.link, 0, 0
        with os.scandir(source) as entries:
            for entry in entries:
                name = entry.name
                if entry.is_file(follow_symlinks=False):
                    if name not in skip:
                        link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
                        done += 1
                        if done - reported == BATCH:
                            reported = done
                            self._line.passed(BATCH)
                elif name not in skip:
                    self._take_other(entry, prefix, source, target)
        self.counts[0] += done
        self._line.passed(done - reported)

    def _take_other(self, entry: os.DirEntry[str], prefix: str, source: int, target: int) -> None:
        name = entry.name
        if entry.is_dir(follow_symlinks=False):
            os.mkdir(name, 0o700, dir_fd=target)
            self._pending.append(prefix + name)
            self.counts[1] += 1
        elif entry.is_symlink():
            link_symlink(name, source, target)
            self.counts[2] += 1
        else:
            os.link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
            self.counts[3] += 1


def link_symlink(name: str, source: int, target: int) -> None:
    """Hard-link a symbolic link, or make one like it where the file system has no such thing. Raises OSError."""
    try:
        os.link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in REFUSED:
            raise
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
        times = (status.st_atime_ns, status.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)


def copy_attributes(source: int, target: int) -> None:
    """Give a directory the attributes, owner, mode and times of another. Raises OSError.

    Times come last: whatever is done to a directory changes them. The owner comes before the mode, because changing
    it takes bits from the mode.
    """
    copy_xattrs(source, target)
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, status.st_mode & 0o7777)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def copy_xattrs(source: int, target: int) -> None:
    """Make the extended attributes of a directory, access lists among them, those of another. Raises OSError."""
    wanted, present = xattrs_of(source), xattrs_of(target)
    if wanted == present:
        return
    for name in present.keys() - wanted.keys():  # inherited from the folder that it was made in
        os.removexattr(target, name)
    for name, value in wanted.items():
        if present.get(name) != value:  # labels of the system are there already, and only the system may set them
            os.setxattr(target, name, value)


def xattrs_of(descriptor: int) -> dict[str, bytes]:
    """The extended attributes of an open directory. Raises OSError."""
    try:
        return {name: os.getxattr(descriptor, name) for name in os.listxattr(descriptor)}
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:  # the file system has none
            return {}
        raise
