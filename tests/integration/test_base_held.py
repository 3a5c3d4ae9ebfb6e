"""Nobody removes the snapshot that a transfer shares files with: rsync says nothing when it is gone, and copies all."""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.snapshotter import run as running
from services.snapshotter.rsync import Ability
from services.snapshotter.transfer import Report, Transfer, Transferred, transfer
from shared.adapters.clock import SystemClock
from tests.support.backups import Backups, backups
from tests.support.places import new_place


@pytest.fixture
async def local() -> AsyncIterator[Backups]:
    with new_place() as place:
        async with backups(place, transport="local") as made:
            (made.source / "home/file").write_text("content")
            yield made


def can_be_removed(snapshot: Path) -> bool:
    """Whether the lock that only one who removes it has can be had."""
    descriptor = os.open(snapshot, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


async def test_a_base_is_held_until_the_snapshot_that_shares_with_it_is_complete(
    local: Backups, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = await local.take()
    assert can_be_removed(base.path)
    seen = []

    async def watched(wish: Transfer, ability: Ability, clock: SystemClock, report: Report) -> Transferred:
        seen.append(can_be_removed(base.path))
        moved = await transfer(wish, ability, clock, report)
        seen.append(can_be_removed(base.path))
        return moved

    monkeypatch.setattr(running, "transfer", watched)
    taken = await local.take()
    assert taken.completed.base == base.completed.snapshot
    assert seen == [False, False]
    assert can_be_removed(base.path)
