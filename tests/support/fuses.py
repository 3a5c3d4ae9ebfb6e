"""A retention worker that dies, or loses the log, at a step that a test chooses."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from services.retention import purge, removal
from shared.adapters import filesystem, trash, trees
from shared.adapters.filesystem import open_directory
from shared.adapters.postgres import Appended
from shared.adapters.spool import Spool
from shared.domain.errors import LogUnavailable
from shared.domain.events import NewEvent, Recorded
from tests.support.thinning import Crash, WatchedLog


class Fuse:
    """Counts the steps of a run. `left` is how many are left before it dies; None: it does not."""

    def __init__(self) -> None:
        self.left: int | None = None

    def burn(self) -> None:
        """One step more."""
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise Crash

    def around(self, owner: object, name: str, patch: pytest.MonkeyPatch) -> None:
        """Make a step of what comes before a function, and one of what comes after."""
        real = getattr(owner, name)

        @functools.wraps(real)
        def burning(*args: Any, **kwargs: Any) -> Any:
            self.burn()
            result = real(*args, **kwargs)
            self.burn()
            return result

        patch.setattr(owner, name, burning)


def lay(fuse: Fuse, patch: pytest.MonkeyPatch) -> None:
    """Put a fuse into everything that changes the drive. Trees are removed by this process: they are small."""
    places: list[tuple[object, str]] = [(removal, "throw_away"), (trash, "rename_new"), (trash, "_follow")]
    places += [(purge, "unmark"), (purge, "remove_archive"), (purge, "tidy"), (trash, "_remove_file")]
    places += [(Spool, "add"), (Spool, "forget")]
    for owner, name in places:
        fuse.around(owner, name, patch)

    async def remove_tree(name: str, *, at: int, pass_fds: Sequence[int], busy: Callable[[], bool]) -> int:
        assert isinstance(busy(), bool)
        assert [os.fstat(descriptor) for descriptor in pass_fds]
        fuse.burn()
        with open_directory(name, at=at) as top:
            filesystem.remove_entry("home", at=top)
        fuse.burn()
        removed = filesystem.remove_tree(name, at=at)
        fuse.burn()
        return removed + 4

    assert set(inspect.signature(remove_tree).parameters) <= set(inspect.signature(trees.remove_tree).parameters)
    patch.setattr(purge, "remove_tree", remove_tree)


class FusedLog(WatchedLog):
    """An event log that goes away after so many calls (`away_after`), and whose appends are steps of the fuse."""

    def __init__(self, dsn: str, fuse: Fuse) -> None:
        super().__init__(dsn)
        self._fuse = fuse
        self.away_after: int | None = None

    async def append(self, stream: str, expected_version: int | None, events: Sequence[NewEvent]) -> Appended:
        self._call()
        self._fuse.burn()
        appended = await super().append(stream, expected_version, events)
        self._fuse.burn()
        self._call()  # recorded, but nobody hears that it was
        return appended

    async def read_stream(self, stream: str, after_version: int = 0) -> list[Recorded]:
        self._call()
        return await super().read_stream(stream, after_version)

    def _call(self) -> None:
        if self.away_after is not None:
            self.away_after -= 1
            if self.away_after < 0:
                raise LogUnavailable("The event log is away.", "")
