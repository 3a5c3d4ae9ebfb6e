"""A transfer that hardly gets on is given up; one that is only slow is not."""

from __future__ import annotations

import pytest

from services.snapshotter import transfer
from services.snapshotter.output import OutputReader, Progress
from services.snapshotter.transfer import LEAST_BYTES, LEAST_FILES, STALL_SECONDS, Pace
from shared.domain.errors import RunFailed

MINUTE = 60.0


def lived(bytes_a_minute: float, files_a_minute: float, minutes: int) -> None:
    """So many minutes of a transfer."""
    pace, reader = Pace(0.0), OutputReader(b"x")
    for minute in range(1, minutes + 1):
        reader.progress = Progress(transferred_bytes=int(minute * bytes_a_minute))
        reader.entries = int(minute * files_a_minute)
        pace.check(minute * MINUTE, reader)


@pytest.mark.parametrize("speed", [(1, 0), (0, 1), (0, 0), (LEAST_BYTES / 40, LEAST_FILES / 40)])
def test_a_byte_a_minute_is_given_up_after_half_an_hour_and_not_before(speed: tuple[float, float]) -> None:
    before = int(STALL_SECONDS / MINUTE) - 1
    lived(*speed, before)
    with pytest.raises(RunFailed) as failed:
        lived(*speed, before + 2)
    assert failed.value.transient
    assert failed.value.code == "stalled"


@pytest.mark.parametrize("speed", [(LEAST_BYTES / 25, 0), (0, LEAST_FILES / 25), (1024 * 60, 0)])
def test_the_slowest_that_anybody_may_set_goes_on_for_a_day(speed: tuple[float, float]) -> None:
    lived(*speed, 24 * 60)


def test_it_is_no_slower_than_the_lowest_bandwidth_limit() -> None:
    assert transfer.LEAST_BYTES < 1024 * STALL_SECONDS
