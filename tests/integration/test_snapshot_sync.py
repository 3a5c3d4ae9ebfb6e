"""What the drive says when everything is to be on it decides: a write error is told once, and never tried again."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from shared.adapters import filesystem
from shared.domain.errors import RunFailed
from tests.support.backups import Backups, backups
from tests.support.places import new_place
from tests.support.trees import differences, snapshot_of


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


@pytest.fixture
async def local(place: Path) -> AsyncIterator[Backups]:
    async with backups(place, transport="local") as made:
        (made.source / "home/file").write_text("content")
        yield made


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.ENOSPC])
async def test_what_the_drive_could_not_keep_is_no_snapshot(
    local: Backups, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = await local.take()
    kept, links = snapshot_of(good.path), (local.link("current"), local.link("latest"))

    def refused(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(filesystem, "sync_filesystem", refused)
        with pytest.raises((RunFailed, OSError), match=os.strerror(number)):
            await local.take()
    assert local.snapshots() == [good.completed.snapshot]
    assert local.leftovers() == []
    assert (local.link("current"), local.link("latest")) == links
    assert differences(kept, snapshot_of(good.path)) == []
    assert (await local.take()).completed.base == good.completed.snapshot
