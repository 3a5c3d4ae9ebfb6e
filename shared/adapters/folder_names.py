"""The sorted names of large folders, remembered for who turns the pages of one."""

from __future__ import annotations

import os
from collections import OrderedDict
from threading import Lock
from typing import Final

WORTH_REMEMBERING: Final = 2_000
"""Names. A smaller folder is read again in a few milliseconds."""


class FolderNames:
    """Remembers so many names altogether, of the folders that were looked at last. Threads may share it."""

    def __init__(self, most_names: int) -> None:
        self._most = most_names
        self._held = 0
        self._lock = Lock()
        self._known: OrderedDict[tuple[int, ...], list[bytes]] = OrderedDict()

    def of(self, folder: int) -> list[bytes]:
        """The names in an open folder, sorted. Raises OSError."""
        status = os.fstat(folder)
        key = (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        names = sorted(map(os.fsencode, os.listdir(folder)))
        if WORTH_REMEMBERING <= len(names) <= self._most:
            self._remember(key, names)
        return names

    def _remember(self, key: tuple[int, ...], names: list[bytes]) -> None:
        with self._lock:
            self._held += len(names) - len(self._known.pop(key, ()))
            self._known[key] = names
            while self._held > self._most:
                self._held -= len(self._known.popitem(last=False)[1])
