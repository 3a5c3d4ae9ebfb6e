"""Opening what lies below a directory: through no symbolic link, onto no mount, however deep it is.

This is imported by the short-lived processes of `tree_worker`, so it imports next to nothing itself.
"""

from __future__ import annotations

import ctypes
import errno
import os

SYS_OPENAT2 = 437
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
LONGEST = 1_000
"""Characters of a path that are given to the kernel at once: it takes 4,096 bytes, and a character has up to 4."""

ANCHORS = 16
"""How many folders on the way down are kept open."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

JUST_A_PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
"""Opens anything, also what must never be opened, without any effect on it: a link itself, a pipe, a device."""


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class Opener:
    """Opens directories to be read; with `quiet`, reading them leaves their access times alone where that is allowed.
    With other `flags`, what the path names need not be a directory.

    A folder of the same drive that is mounted here once more has the same device number; only the kernel can tell,
    by openat2. Where it is missing or forbidden (old kernels, some containers) device numbers have to do.
    """

    def __init__(self, *, quiet: bool = False, flags: int = _DIRECTORY) -> None:
        self._flags = flags | (os.O_NOATIME if quiet else 0)
        self._flags_of_folders = _DIRECTORY | (os.O_NOATIME if quiet else 0)
        how = _OpenHow(self._flags, 0, RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH)
        self._how = ctypes.byref(how)
        self._size = ctypes.sizeof(how)
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall
        self._syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t)
        self._syscall.restype = ctypes.c_long

    def open(self, path: str, at: int) -> int:
        """A descriptor of what lies below a directory. Raises OSError, with EXDEV when something is mounted there."""
        descriptor: int = self._syscall(SYS_OPENAT2, at, os.fsencode(path), self._how, self._size)
        if descriptor >= 0:
            return descriptor
        if (number := ctypes.get_errno()) in {errno.ENOSYS, errno.EPERM}:
            return self._open_by_parts(path, at)
        raise OSError(number, os.strerror(number), path)

    def _open_by_parts(self, path: str, at: int) -> int:
        device = os.fstat(at).st_dev
        *folders, last = path.split("/")
        descriptor = at
        for part, flags in (*((folder, self._flags_of_folders) for folder in folders), (last, self._flags)):
            parent = descriptor
            try:
                descriptor = self._open_part(part, parent, flags)
            finally:
                if parent != at:
                    os.close(parent)
            if os.fstat(descriptor).st_dev != device:
                os.close(descriptor)
                raise OSError(errno.EXDEV, "another file system is mounted here", path)
        return descriptor

    def _open_part(self, name: str, at: int, flags: int) -> int:
        try:
            return os.open(name, flags, dir_fd=at)
        except PermissionError as error:
            # Only the owner and root may leave the access time alone.
            if error.errno != errno.EPERM or not flags & os.O_NOATIME:
                raise
            return os.open(name, flags & ~os.O_NOATIME, dir_fd=at)


class Descent:
    """Opens the folders of one tree by their paths below its top, also those that are longer than any path may be.

    On the way to the last folder some are kept open, so that its neighbours are near; `close` gives them up.
    """

    def __init__(self, top: int, opener: Opener) -> None:
        self._top = top
        self._opener = opener
        self._anchors: list[tuple[str, int]] = []

    def open(self, path: str) -> int:
        """A descriptor of the folder, which is the caller's to close. Raises OSError, with EXDEV at a mount."""
        anchors = self._anchors
        while anchors and not path.startswith(anchors[-1][0]):
            os.close(anchors.pop()[1])
        prefix, descriptor = anchors[-1] if anchors else ("", self._top)
        start = len(prefix)
        while len(path) - start > LONGEST:
            cut = path.rindex("/", start, start + LONGEST) + 1
            descriptor = self._opener.open(path[start : cut - 1], descriptor)
            anchors.append((path[:cut], descriptor))
            if len(anchors) > ANCHORS:
                os.close(anchors.pop(0)[1])
            start = cut
        return self._opener.open(path[start:] or ".", descriptor)

    def close(self) -> None:
        """Give up what is kept open."""
        while self._anchors:
            os.close(self._anchors.pop()[1])


def make_searchable(name: str, *, at: int) -> None:
    """Take the way into a directory: anybody but root may have no right to list or to empty his own."""
    if os.geteuid() == 0:
        return
    # O_PATH needs no right to the directory itself, and what it opened cannot be swapped for a link.
    descriptor = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
    try:
        if os.fstat(descriptor).st_dev == os.fstat(at).st_dev:  # what is mounted here is not ours to change
            os.chmod(f"/proc/self/fd/{descriptor}", 0o700)  # noqa: PTH101  # a descriptor, not a path
    finally:
        os.close(descriptor)
