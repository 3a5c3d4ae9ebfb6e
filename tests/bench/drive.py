"""Drives to measure on: a fresh ext4 with a journal, mounted from a sparse image, gone afterwards.

A benchmark on whatever lies under /tmp misleads: without a journal, ext4 makes every mkdir after a large removal
search through recently freed inodes. A drive that nobody has written to before also makes every round the same.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.adapters import filesystem, process

IMAGE_BYTES: Final = 16 * 1024**3
"""Sparse: what is not written takes nothing."""

TIMEOUT_SECONDS: Final = 120.0
JOURNALLED: Final = "a fresh ext4 with a journal, loop-mounted, for each round"


@dataclass(frozen=True, slots=True)
class Drive:
    """A directory that is the top of a drive of its own, where that could be had; `kind` says what it is."""

    path: Path
    kind: str

    async def settle(self) -> None:
        """Write everything to the drive, so that what comes next does not pay for what was before."""
        with filesystem.open_directory(self.path) as top:
            await asyncio.to_thread(filesystem.sync_filesystem, top)


@asynccontextmanager
async def fresh_drive(folder: Path, name: str) -> AsyncIterator[Drive]:
    """An empty drive below a folder; an ordinary directory where nothing can be mounted."""
    top, image = folder / name, folder / f"{name}.ext4"
    top.mkdir()
    mounted = os.geteuid() == 0 and await _mount(image, top)
    try:
        yield Drive(top, JOURNALLED if mounted else f"an ordinary folder, {top.parent}: do not trust the ratios")
    finally:
        if mounted:
            await _unmount(top)
            top.rmdir()
        else:
            await asyncio.to_thread(shutil.rmtree, top)
        image.unlink(missing_ok=True)


async def _mount(image: Path, top: Path) -> bool:
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    # Everything as mkfs does it by itself, except that it is all done now: the kernel would do the rest
    # in the background, while something is being measured.
    made = ["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image)]
    for argv in (made, ["mount", "-o", "loop", str(image), str(top)]):
        if (await process.run(argv, timeout_seconds=TIMEOUT_SECONDS)).returncode != 0:
            return False
    (top / "lost+found").rmdir()
    return True


async def _unmount(top: Path) -> None:
    for pause_seconds in (0.2, 1.0, 5.0):
        done = await process.run(["umount", str(top)], timeout_seconds=TIMEOUT_SECONDS)
        if done.returncode == 0:
            return
        await asyncio.sleep(pause_seconds)
    await process.run(["umount", "--lazy", str(top)], timeout_seconds=TIMEOUT_SECONDS)


async def has_own_mounts() -> bool:
    """Whether processes here may have a view of the mounts of their own."""
    tried = await process.run(["unshare", "--mount", "--", "true"], timeout_seconds=TIMEOUT_SECONDS)
    return tried.returncode == 0
