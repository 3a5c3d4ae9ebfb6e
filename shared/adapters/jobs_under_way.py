"""Whether any job of a store is being worked on, by whichever process: who holds their locks is told by the kernel.

Asking by trying to take a lock would keep a worker from its host in that very moment.
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

WHO_READS: Final = (Job.SNAPSHOT, Job.ARCHIVE)


class JobsUnderWay:
    """Answers whether a snapshot or an archive of any host of a store is being made now."""

    def __init__(self, store: Store, *, jobs: Iterable[Job] = WHO_READS, locks: Path = Path("/proc/locks")) -> None:
        self._locks = locks
        self._places = frozenset(_lock_files(store, tuple(jobs)))

    def __call__(self) -> bool:
        """Ask. Where the kernel does not tell, the answer is no."""
        try:
            lines = self._locks.read_text().splitlines()
        except OSError:
            return False
        return any(_place(line) in self._places for line in lines if "FLOCK" in line)


def _lock_files(store: Store, jobs: Iterable[Job]) -> Iterable[str]:
    for host in store.hosts():
        with (
            suppress(OSError),
            store.existing_folder(host) as folder,
            open_directory(".locks", at=folder.descriptor) as at,
        ):
            for job in jobs:
                with suppress(FileNotFoundError):
                    found = os.stat(job, dir_fd=at, follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode):
                        yield f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"


def _place(line: str) -> str:
    """The device and inode that a line of /proc/locks is about."""
    return next((word for word in line.split() if word.count(":") == 2), "")
