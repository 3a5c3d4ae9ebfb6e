"""How much lies below a path of a restore point: looked at for a moment, so that a form can say it."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import Final

from shared.adapters.beneath import Descent, Opener
from shared.adapters.filesystem import open_directory
from shared.adapters.restore_points import FOLDERS
from shared.adapters.threads import in_thread
from shared.config import Settings
from shared.domain.names import HostName
from shared.domain.restore_request import RestorePoint

MOST_ENTRIES: Final = 20_000


@dataclass(slots=True)
class Weight:
    """So much at least; `all` says whether everything was counted."""

    files: int = 0
    size_bytes: int = 0
    all: bool = True


async def weigh(settings: Settings, host: HostName, point: RestorePoint, path: bytes) -> Weight | None:
    """What is below a path, or None when this machine cannot see it."""
    try:
        return await in_thread(_weigh, settings, host, point, path)
    except OSError:
        return None


def _weigh(settings: Settings, host: HostName, point: RestorePoint, path: bytes) -> Weight:
    found, seen = Weight(), 0
    with (
        open_directory(settings.folder_of(host) / FOLDERS[point.kind]) as place,
        open_directory(point.name, at=place) as tree,
    ):
        descent = Descent(tree, Opener(quiet=True))
        try:
            folder, _, name = os.fsdecode(path).rpartition("/")
            folders = _add(found, folder or ".", [name], descent)
            while folders and seen < MOST_ENTRIES:
                at = folders.pop()
                names = _names(at, descent)
                seen += len(names)
                folders += _add(found, at, names, descent)
            found.all = not folders
        finally:
            descent.close()
    return found


def _names(folder: str, descent: Descent) -> list[str]:
    descriptor = descent.open(folder)
    try:
        return os.listdir(descriptor)
    finally:
        os.close(descriptor)


def _add(found: Weight, folder: str, names: list[str], descent: Descent) -> list[str]:
    """Count these entries of a folder; returns the folders among them."""
    below, descriptor = [], descent.open(folder)
    try:
        for name in names[:MOST_ENTRIES]:
            about = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISDIR(about.st_mode):
                below.append(name if folder == "." else f"{folder}/{name}")
            elif stat.S_ISREG(about.st_mode):
                found.files += 1
                found.size_bytes += about.st_size
    finally:
        os.close(descriptor)
    return below
