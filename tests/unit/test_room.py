"""What does not fit is refused with the numbers; what fits never is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.domain.room import RESERVE_SHARE, Need, Room, why_no_room, why_over_quota, why_running_out

GIB = 1024**3
sizes = st.integers(0, 10**15)


def room(*, free: int = 100 * GIB, inodes: int | None = 1_000_000) -> Room:
    return Room(total_bytes=1000 * GIB, free_bytes=free, total_inodes=10_000_000, free_inodes=inodes)


def test_what_fits_is_not_refused() -> None:
    assert why_no_room(room(), Need(80 * GIB, 800_000, "x")) == ""


def test_bytes_that_do_not_fit_are_told_with_the_numbers() -> None:
    reason = why_no_room(room(), Need(81 * GIB, 1, "like the run before"))
    assert reason == (
        "The drive has 100.0 GiB free (2% of 1,000.0 GiB stay in reserve), and 81.0 GiB are needed: "
        "like the run before."
    )


def test_inodes_that_do_not_fit_are_told_with_the_numbers() -> None:
    reason = why_no_room(room(), Need(1, 800_001, "like the run before"))
    assert reason.startswith("The drive has 1,000,000 free inodes (2% of 10,000,000 stay in reserve)")


def test_a_file_system_that_makes_inodes_as_it_goes_has_enough_of_them() -> None:
    assert why_no_room(room(inodes=None), Need(1, 10**12, "x")) == ""


@st.composite
def rooms(draw: st.DrawFn) -> Room:
    total_bytes, total_inodes = draw(sizes), draw(st.integers(0, 10**9))
    return Room(
        total_bytes=total_bytes,
        free_bytes=draw(st.integers(0, total_bytes)),
        total_inodes=total_inodes,
        free_inodes=draw(st.none() | st.integers(0, total_inodes)),
    )


@given(rooms(), st.builds(Need, sizes, st.integers(0, 10**9), st.just("x")))
def test_a_run_that_is_let_through_leaves_the_reserve(there: Room, need: Need) -> None:
    if why_no_room(there, need) == "":
        assert there.free_bytes - need.size_bytes >= int(there.total_bytes * RESERVE_SHARE)
        if there.free_inodes is not None:
            assert there.free_inodes - need.inodes >= int(there.total_inodes * RESERVE_SHARE)


def test_a_quota_counts_what_is_used_and_what_is_needed() -> None:
    assert why_over_quota(5 * GIB, None, Need(10**15, 0, "x")) == ""
    assert why_over_quota(5 * GIB, 7 * GIB, Need(2 * GIB, 0, "x")) == ""
    reason = why_over_quota(5 * GIB, 7 * GIB, Need(2 * GIB + 1, 0, "the first archive"))
    assert reason == "The host uses 5.0 GiB of its quota of 7.0 GiB, and 2.0 GiB are needed: the first archive."


def test_a_run_under_way_stops_before_it_has_taken_the_last_of_the_drive() -> None:
    assert why_running_out(room(free=10 * GIB)) == why_running_out(room(inodes=None)) == ""
    assert "10.0 GiB" in why_running_out(room(free=10 * GIB - 1))
    assert "99,999 inodes" in why_running_out(room(inodes=99_999))
