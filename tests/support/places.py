"""Folders for tests that run servers: every user may pass through, which pytest's own folders do not allow."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.adapters import filesystem


@contextmanager
def new_place() -> Iterator[Path]:
    """An empty folder below the temporary directory, removed at the end with whatever odd things are in it."""
    place = Path(tempfile.mkdtemp(prefix="backup-test-"))
    place.chmod(0o711)
    try:
        yield place
    finally:
        with filesystem.open_directory(place.parent) as parent:
            filesystem.remove_tree(place.name, at=parent)
