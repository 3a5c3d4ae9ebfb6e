"""Who holds which lock, as the kernel tells it: by looking, because trying to take one would keep others from it.

In a container only the locks of its own processes are seen. So this is for being polite and for showing; what
protects is always the lock itself.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from shared.adapters.filesystem import open_directory
from shared.adapters.store import Store
from shared.domain.event import Job
from shared.domain.names import HostName

LOCKS: Final = Path("/proc/locks")
WAITED_FOR: Final = (Job.SNAPSHOT, Job.ARCHIVE)


def held_places(locks: Path = LOCKS) -> frozenset[str]:
    """The places (`place_of`) of everything that is locked by flock(2) now; none where the kernel does not tell."""
    try:
        lines = locks.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(word for line in lines if "FLOCK" in line for word in line.split() if word.count(":") == 2)


def place_of(status: os.stat_result) -> str:
    """What /proc/locks calls a file or directory: its device and inode."""
    return f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"


class JobsUnderWay:
    """Answers whether a snapshot or an archive of any host of a store is being made now."""

    def __init__(self, store: Store, *, jobs: Iterable[Job] = WAITED_FOR, locks: Path = LOCKS) -> None:
        self._locks = locks
        self._places = {place for host in store.hosts() for place in _lock_files(store, host, tuple(jobs))}

    def __call__(self) -> bool:
        """Ask."""
        return not self._places.isdisjoint(held_places(self._locks))


def _lock_files(store: Store, host: HostName, jobs: Iterable[Job]) -> Iterable[str]:
    with suppress(OSError), store.existing_folder(host) as folder, open_directory(".locks", at=folder.descriptor) as at:
        for job in jobs:
            with suppress(FileNotFoundError):
                found = os.stat(job, dir_fd=at, follow_symlinks=False)
                if stat.S_ISREG(found.st_mode):
                    yield place_of(found)
