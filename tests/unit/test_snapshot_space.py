"""What the next snapshot will take of the drive, by the runs before or by what was counted."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.snapshotter.admission import judge
from services.snapshotter.failure import as_failure
from services.snapshotter.output import Totals
from services.snapshotter.space import FLOOR_BYTES, FLOOR_INODES, FOLDER_BYTES, counted_need, likely_need
from shared.domain.errors import RunFailed, StoreRefused
from shared.domain.events import SnapshotCompleted
from shared.domain.room import Need, Room
from tests.support.builders import build

GIB = 1024**3
COUNTS = st.integers(0, 10**12)
ROOMY = Room(total_bytes=100 * GIB, free_bytes=50 * GIB, total_inodes=10**6, free_inodes=500_000)


def a_run(base: str | None, *, moved: int = 0, files: int = 0, folders: int = 10) -> SnapshotCompleted:
    """A run that completed."""
    return build(SnapshotCompleted, base=base, transferred_bytes=moved, transferred_files=files, directories=folders)


RUNS = st.lists(
    st.builds(a_run, st.sampled_from([None, "before"]), moved=COUNTS, files=COUNTS, folders=COUNTS), max_size=6
)


def test_of_a_host_that_has_nothing_yet_only_a_floor_is_asked() -> None:
    need = likely_need([], shares=False)
    assert (need.size_bytes, need.inodes) == (FLOOR_BYTES, FLOOR_INODES)


def test_the_next_run_is_like_the_largest_one_and_a_quarter_more_and_has_its_own_folders() -> None:
    runs = [a_run("x", moved=4000, files=40), a_run("x", moved=1000, files=80), a_run("x", folders=100)]
    need = likely_need(runs, shares=True)
    assert need.size_bytes == 5000 + 100 * FOLDER_BYTES
    assert 100 + 100 <= need.inodes <= 100 + 100 + 10


def test_a_first_snapshot_that_moved_everything_does_not_count_for_one_that_shares() -> None:
    first = a_run(None, moved=500 * GIB, files=10**6, folders=100)
    assert likely_need([first], shares=True).size_bytes == FLOOR_BYTES + 100 * FOLDER_BYTES
    assert likely_need([first, a_run("x", moved=1000)], shares=True).size_bytes < 100_000
    assert likely_need([first], shares=False).size_bytes > 500 * GIB


@given(RUNS, st.booleans())
def test_what_is_needed_is_never_less_than_any_run_like_it_took(runs: list[SnapshotCompleted], shares: bool) -> None:
    need = likely_need(runs, shares=shares)
    assert need.grounds
    for run in runs:
        if run.base is not None or not shares:
            assert need.size_bytes >= run.transferred_bytes
            assert need.inodes >= run.transferred_files
    if runs:
        assert need.size_bytes >= runs[-1].directories * FOLDER_BYTES
        assert need.inodes >= runs[-1].directories


@given(st.builds(Totals, *[COUNTS] * 8))
def test_what_was_counted_is_needed_and_folders_besides(totals: Totals) -> None:
    need = counted_need(totals)
    assert need.size_bytes == totals.transferred_bytes + totals.directories * FOLDER_BYTES
    assert need.inodes >= totals.transferred_files + totals.directories + totals.symlinks


ROOMS = st.builds(Room, COUNTS, COUNTS, COUNTS, st.none() | COUNTS)
NEEDS = st.builds(Need, COUNTS, COUNTS, st.just("because"))


@given(ROOMS, NEEDS, st.none() | COUNTS, st.none() | COUNTS)
def test_what_is_not_refused_fits_in_every_way(room: Room, need: Need, used: int | None, quota: int | None) -> None:
    refused = judge(room, need, used, quota)
    if refused is not None:
        assert refused.code in {"no_room", "quota"}
        assert not refused.transient
        assert refused.hint
        return
    assert need.size_bytes <= room.free_bytes
    assert room.free_inodes is None or need.inodes <= room.free_inodes
    assert used is None or quota is None or used + need.size_bytes <= quota


def test_a_refusal_has_the_numbers_and_says_what_to_do() -> None:
    refused = judge(ROOMY, Need(49 * GIB, 10, "like before"), None, None)
    assert refused is not None
    assert "50.0 GiB free" in refused.message
    assert "49.0 GiB are needed: like before" in refused.message
    assert "Nothing was deleted" in refused.hint
    assert judge(ROOMY, Need(0, 490_000, "x"), None, None) is not None
    assert judge(ROOMY, Need(10 * GIB, 10, "x"), 45 * GIB, 50 * GIB) is not None
    assert judge(ROOMY, Need(10 * GIB, 10, "x"), None, 50 * GIB) is None  # the log is away
    assert judge(ROOMY, Need(10 * GIB, 10, "x"), 40 * GIB, 50 * GIB) is None


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "x"), OSError(errno.EDQUOT, "x"), RunFailed("x", code="no_room")]
)
def test_a_drive_that_filled_up_is_one_code_wherever_it_showed(error: RunFailed | OSError) -> None:
    failed = as_failure(error, ROOMY)
    assert failed.code == "no_room"
    assert not failed.transient
    assert "now 50.0 GiB and 500,000 inodes are free" in failed.message
    assert "Nothing was deleted" in failed.hint
    assert as_failure(error, None).code == "no_room"


def test_other_errors_stay_what_they_are() -> None:
    failure = RunFailed("x", code="rsync_12", transient=True)
    assert as_failure(failure, ROOMY) is failure
    assert as_failure(OSError(errno.EIO, "x"), ROOMY).code == "drive"
    assert as_failure(StoreRefused("gone", "Mount it."), ROOMY).code == "StoreRefused"
