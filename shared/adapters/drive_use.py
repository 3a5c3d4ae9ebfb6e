"""Whether somebody else waits for a drive, so that work that nobody waits for can make room.

What the kernel counts tells very little: a removal by itself writes thousands of blocks one moment and none the next,
reads by itself when nothing is cached, and always has something in flight. What it hardly ever does is to flush the
drive's cache, which every fsync does: up to 20 times a second were seen of it, and above 1,000 of one busy database.
The pressure file is about the whole machine, and counts our own waiting.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

FLUSHES: Final = 6
"""So many between two questions, which are a fraction of a second apart, are not ours alone."""

QUIET_SECONDS: Final = 2.0
"""Who used the drive so shortly ago is likely to come back."""

FLUSH_FIELD: Final = 15
"""Of the `stat` file of a disk (Linux 5.5, Documentation/block/stat.rst)."""


class OthersSync:
    """Answers whether others had data written to a drive since it was last asked. The first answer is always yes.

    It stays yes where nobody can know: on file systems without a block device (btrfs, overlays, the network), on
    drives without a cache to flush, and on kernels that do not count. Readers, and writers that never sync, are not
    noticed: of those who work for the same store the caller knows from their locks.
    """

    def __init__(self, descriptor: int, *, devices: Path = Path("/sys/dev/block")) -> None:
        number = os.fstat(descriptor).st_dev
        self._stats = _stat_files(devices / f"{os.major(number)}:{os.minor(number)}")
        self._flushes: int | None = None
        self._seen: float | None = None

    def __call__(self) -> bool:
        """Ask; meant to be asked a few times a second."""
        now = time.monotonic()
        before, self._flushes = self._flushes, self._count()
        if before is None or self._flushes is None:
            return True
        if self._flushes - before >= FLUSHES:
            self._seen = now
        return self._seen is not None and now - self._seen < QUIET_SECONDS

    def _count(self) -> int | None:
        try:
            return sum(int(file.read_text().split()[FLUSH_FIELD]) for file in self._stats) if self._stats else None
        except (OSError, IndexError, ValueError):
            return None


def _stat_files(device: Path) -> list[Path]:
    """The counters of the disks that a block device is on; none when one of them does not count flushes.

    Only whole disks count them: not partitions, and not what is laid over disks (encryption, RAID, volumes).
    """
    try:
        disk = device.resolve(strict=True)
        if (disk / "partition").exists():
            disk = disk.parent
        below = list((disk / "slaves").iterdir()) if (disk / "slaves").exists() else []
        if not below:
            cached = (disk / "queue/write_cache").read_text().strip() == "write back"
            return [disk / "stat"] if cached else []
        found = [_stat_files(slave) for slave in below]
    except OSError:
        return []
    return [file for files in found for file in files] if all(found) else []
