"""Giving up, for good, to write anywhere but where the work is: Landlock, which the kernel itself holds.

It needs no privilege, and neither root nor a capability gets around it. It is for this process and all that it starts;
nothing can be given back. Rights to read are not touched. Source: the kernel's documentation, userspace-api/landlock.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""The numbers of the system calls: the same on every architecture."""

_ASK_VERSION, _PATH_BENEATH = 1, 1
_SET_NO_NEW_PRIVILEGES = 38

_WRITE_FILE: Final = 1 << 1
_FIRST_VERSION: Final = _WRITE_FILE | sum(1 << bit for bit in range(4, 13))
"""Write to a file; remove and make every kind of entry."""

_REFER, _TRUNCATE = 1 << 13, 1 << 14
_ON_A_FILE: Final = _WRITE_FILE | _TRUNCATE
_ENOUGH: Final = 2
"""The first version that knows _REFER: before it, nothing could be linked or moved to another directory at all."""


class MayWrite(NamedTuple):
    """Where a process may write.

    `all_of`: everything at and below these paths. `names_of`: entries below these directories can be made, moved and
    removed, but no file can be written: what shares its content with something else stays as it is. `links_from`:
    what lies below these can be linked into `names_of`; the kernel refuses a link that could do more than its source.
    """

    all_of: Sequence[Path] = ()
    names_of: Sequence[Path] = ()
    links_from: Sequence[Path] = ()


def version() -> int:
    """Which Landlock the kernel has; 0 for none."""
    found = _libc().syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)
    return max(int(found), 0)


def confine(may_write: MayWrite) -> bool:
    """Give up to write anywhere else; False where the kernel cannot hold that.

    To be called before there is a second thread: the others would go on as they are. Raises OSError when a path is
    not there.
    """
    if (known := version()) < _ENOUGH:
        return False
    rights = _FIRST_VERSION | _REFER | (_TRUNCATE if known > _ENOUGH else 0)
    ruleset = _called(_CREATE_RULESET, struct.pack("=Q", rights), 8, 0)
    try:
        for path in may_write.all_of:
            _allow(ruleset, path, rights)
        for path in may_write.names_of:
            _allow(ruleset, path, rights & ~_ON_A_FILE)
        for path in may_write.links_from:
            _allow(ruleset, path, _REFER)
        if _libc().prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "no_new_privs cannot be set")
        _called(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return True


def _allow(ruleset: int, path: Path, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        below = rights if path.is_dir() else rights & _ON_A_FILE
        _called(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", below, descriptor), 0)
    finally:
        os.close(descriptor)


def _called(number: int, *args: object) -> int:
    result = int(_libc().syscall(number, *args))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"Landlock refuses: {os.strerror(ctypes.get_errno())}")
    return result


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
