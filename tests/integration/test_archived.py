"""What archives and golden copies are made of: the newest complete snapshot, and all of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.archiver.due import Due, what_is_due
from shared.adapters.restore_points import golden_copies
from shared.domain.errors import RunFailed
from shared.domain.events import Job, Quality
from shared.domain.host_state import HostState
from shared.domain.names import snapshot_name
from tests.faults.drives import NEW_GOLDEN, Here, build_drive, golden_of, opened
from tests.support.builders import SLOT, a_run, some_settings
from tests.support.places import new_place
from tests.support.stock import put_snapshot, stocked


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


@pytest.mark.parametrize("newer", [Quality.DEGRADED, Quality.SUSPECT])
def test_what_is_archived_and_copied_is_the_newest_complete_snapshot(place: Path, newer: Quality) -> None:
    hour = timedelta(hours=1)
    with stocked(place / "drive") as folder:
        put_snapshot(folder, SLOT - hour)
        put_snapshot(folder, SLOT)
        put_snapshot(folder, SLOT + hour, quality=newer)
        due = what_is_due(folder, HostState(), SLOT + hour, some_settings())
    assert isinstance(due, Due)
    assert (due.snapshot.name, due.why_not, due.golden) == (snapshot_name(SLOT), "", "2026-03")


def test_without_a_complete_snapshot_nothing_is_archived_or_copied(place: Path) -> None:
    with stocked(place / "drive") as folder:
        put_snapshot(folder, SLOT, quality=Quality.DEGRADED)
        assert isinstance(what_is_due(folder, HostState(), SLOT, some_settings()), str)


@pytest.mark.parametrize("lost", ["same", "link"])
def test_a_snapshot_that_has_lost_a_file_makes_no_golden_copy(place: Path, lost: str) -> None:
    build_drive(place / "drive")
    with opened(place / "drive") as (store, folder), folder.locked(Job.ARCHIVE) as lock:
        before = {copy.name for copy in golden_copies(folder)}
        (folder.path / "hourly" / snapshot_name(SLOT) / "home/alice" / lost).unlink()
        with pytest.raises(RunFailed) as failed:
            asyncio.run(golden_of(Here(store, folder, lock, a_run()), SLOT, NEW_GOLDEN))
        assert failed.value.code == "members"
        assert set(os.listdir(folder.path / "monthly")) == before
