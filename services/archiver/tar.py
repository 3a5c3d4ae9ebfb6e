"""The GNU tar that reads a snapshot: its command, and what its exit code and its complaints mean."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from shared.adapters.markers import CHANGES_FILE, FILES_FILE, MARKER_FILE
from shared.adapters.process import dying_with_parent
from shared.domain.errors import RunFailed

RECORDS: Final = frozenset(map(os.fsencode, (MARKER_FILE, CHANGES_FILE, FILES_FILE)))
"""What a snapshot says about itself. A file of a host may have such a name further down, and is archived."""

ENVIRONMENT: Final = {"LC_ALL": "C", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
"""The complaints in the words that are understood here, and no TAR_OPTIONS."""

OPTIONS: Final = (
    "--create",
    "--file=-",
    # Records of 64 KiB instead of 10: a quarter less time for tar, and half of that for whoever reads from it.
    "--blocking-factor=128",
    # Names come from the standard input, each ended by a zero byte; none can be an option or an escape.
    "--null",
    "--verbatim-files-from",
    "--no-unquote",
    # Times to the nanosecond. The name and time of an extension header mean nothing to anybody: with constant ones
    # they take 0.8 % of the archive instead of 2 %, and hold no process id, so the same tree makes the same bytes.
    "--format=posix",
    "--pax-option=delete=atime,delete=ctime,exthdr.name=PaxHeaders/x,exthdr.mtime=0",
    "--numeric-owner",
    # Access control lists as the attributes they are: as text they would carry names of users of this machine.
    "--xattrs",
    "--xattrs-include=user.*",
    "--xattrs-include=system.posix_acl_*",
    # Newer ways of writing down where the holes are put the process id of tar into the names of sparse files.
    "--sparse",
    "--sparse-version=0.0",
    "--one-file-system",
    "--sort=name",
    "--quoting-style=escape",
)
COMPLAINTS_KEPT: Final = 20

_CHANGED: Final = b": file changed as we read it"
_SOCKET: Final = b": socket ignored"
_LAST_WORDS: Final = b"tar: Exiting with failure status due to previous errors"


def top_names(tree: int) -> list[bytes]:
    """What is at the top of a snapshot apart from its own records, in the order of the archive."""
    return sorted(set(map(os.fsencode, os.listdir(tree))) - RECORDS)


def command(tree: int) -> list[str]:
    """The tar that reads the snapshot of a descriptor, which it has to inherit, and dies with its parent."""
    directory = f"--directory=/proc/self/fd/{tree}"
    return dying_with_parent(["tar", *OPTIONS, directory, "--files-from=-"])


@dataclass(slots=True)
class Complaints:
    """What tar says on its error output, of which only as much is kept as a person reads."""

    changed: int = 0
    """Files that changed while they were read, or that another snapshot began or ceased to share."""
    sockets: int = 0
    others: list[str] = field(default_factory=list)
    _rest: bytes = b""

    def hear(self, chunk: bytes) -> None:
        """Take the next piece."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if line.endswith(_CHANGED):
                self.changed += 1
            elif line.endswith(_SOCKET):
                self.sockets += 1
            elif line and line != _LAST_WORDS and len(self.others) < COMPLAINTS_KEPT:
                self.others.append(line.decode("ascii", "backslashreplace"))


def failure(code: int, complaints: Complaints) -> RunFailed | None:
    """Why tar failed, or None when it did not, as far as it can tell.

    It takes a file for changed when the time of the last change of its attributes moved. That happens whenever
    another snapshot is made or removed that shares the file; so whether the tree changed is for the caller to see.
    """
    said = "; ".join(complaints.others[:3])
    if code < 0:
        name = signal.Signals(-code).name
        return RunFailed(f"tar was ended by {name}.", "It is tried again.", code="tar", transient=True)
    if "Input/output error" in said:
        return RunFailed(f"The snapshot cannot be read: {said}.", "The drive may be failing.", code="drive")
    if "Permission denied" in said:
        return RunFailed(f"The snapshot cannot be read: {said}.", "Run the archiver as root.", code="permission")
    if code > 1 or (code == 1 and not complaints.changed) or complaints.others:
        return RunFailed(f"tar ended with exit code {code}: {said or 'no word'}.", code="tar")
    return None


def warnings(sockets: int) -> Sequence[str]:
    """What of a tree is not in its archive, in words."""
    if not sockets:
        return ()
    return (f"{sockets} sockets were left out: no archive can hold one.",)
