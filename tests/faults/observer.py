"""Sees two writers at once, with locks of its own that no part of the product knows of.

A writer is an rsync that lives, or a piece of the product that changes names on the drive. Each holds a lock on a file
of the observer as long as it is at it: rsync and whatever it starts by inheriting it, however its parent ends. Who
finds a lock held writes down that there are two.
"""

from __future__ import annotations

import asyncio
import fcntl
import functools
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from services.retention import purge, removal
from services.snapshotter import transfer
from shared.adapters.store import HostFolder
from shared.runtime.worker import Disposition

CONFLICT: Final = 97
"""What flock(1) answers for an rsync that would be the second one."""
DYING_SECONDS: Final = 1.0
"""The kernel ends what lives in the walls a moment after the process around them."""


class Observer:
    """The files by which one lane of races is watched."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def conflicts(self) -> list[str]:
        """What was seen of two writers."""
        return self._lines("conflicts")

    def handled(self) -> list[str]:
        """Who had which tick, and what came of it: `job slot pid outcome`."""
        return self._lines("handled")

    def busy(self, job: str) -> list[int]:
        """The processes that have a tick of a job now."""
        return [int(name.split(".")[2]) for name in os.listdir(self.folder) if name.startswith(f"busy.{job}.")]

    def note(self, file: str, line: str) -> None:
        """Add a line, whole even when others do the same."""
        descriptor = os.open(self.folder / file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, f"{line}\n".encode())
        os.close(descriptor)

    @contextmanager
    def writing(self, what: str, *files: str) -> Iterator[None]:
        """Be a writer for as long as the block lasts."""
        held = [(file, os.open(self.folder / file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)) for file in files]
        try:
            for file, descriptor in held:
                if not _taken(descriptor, DYING_SECONDS if file == "rsync" else 0.0):
                    self.note("conflicts", f"{what} by {os.getpid()} beside another writer ({file})")
            yield
        finally:
            for _, descriptor in held:
                os.close(descriptor)

    def watch(self, owner: object, name: str, *files: str) -> None:
        """Have a function of the product be a writer while it runs."""
        real = getattr(owner, name)

        @functools.wraps(real)
        def watched(*args: Any, **kwargs: Any) -> Any:
            with self.writing(name, *files):
                return real(*args, **kwargs)

        @functools.wraps(real)
        async def watched_later(*args: Any, **kwargs: Any) -> Any:
            with self.writing(name, *files):
                return await real(*args, **kwargs)

        setattr(owner, name, watched_later if asyncio.iscoroutinefunction(real) else watched)

    def watch_all(self) -> None:
        """Watch every writer of this process, for good."""
        real = transfer._command

        def command(*args: Any) -> list[str]:
            lock = ["flock", "--nonblock", "--no-fork", "--conflict-exit-code", str(CONFLICT)]
            return [*lock, str(self.folder / "rsync"), *real(*args)]

        setattr(transfer, "_command", command)  # noqa: B010  # it takes whatever the real one takes
        for name in ("complete", "remove_partials"):
            self.watch(HostFolder, name, "snapshot", "rsync")
        for owner, name in ((removal, "throw_away"), (purge, "unmark"), (purge, "remove_tree")):
            self.watch(owner, name, "retention")

    def handling(
        self, job: str, handle: Callable[[Any], Awaitable[Disposition]]
    ) -> Callable[[Any], Awaitable[Disposition]]:
        """The handler, telling when it begins and how it ends."""

        async def watched(tick: Any) -> Disposition:
            mine = self.folder / f"busy.{job}.{os.getpid()}"
            mine.touch()
            outcome = "cancelled"
            try:
                disposition = await handle(tick)
                outcome = type(disposition).__name__
                return disposition
            except Exception as error:
                outcome = type(error).__name__
                raise
            finally:
                mine.unlink(missing_ok=True)
                self.note("handled", f"{job} {tick.slot:%H:%M:%S} {os.getpid()} {outcome}")

        return watched

    def _lines(self, file: str) -> list[str]:
        path = self.folder / file
        return path.read_text().splitlines() if path.exists() else []


def _taken(descriptor: int, patience_seconds: float) -> bool:
    until = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.01)
        else:
            return True
