"""Which snapshot a run shares files with: the newest before it that is worth it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.snapshotter.run import before, choose_base
from shared.adapters.markers import Marker, StoredSnapshot
from shared.domain.events import Quality, SnapshotCompleted
from shared.domain.ids import event_id
from shared.domain.names import snapshot_name
from tests.support.builders import SLOT, a_run, build

COMPLETE, DEGRADED, SUSPECT = Quality.COMPLETE, Quality.DEGRADED, Quality.SUSPECT


def stored(hour: int, quality: Quality) -> StoredSnapshot:
    run, slot = a_run(), SLOT + timedelta(hours=hour)
    made = build(SnapshotCompleted, run=run, slot=slot, snapshot=snapshot_name(slot), quality=quality)
    return StoredSnapshot(snapshot_name(slot), Marker(event_id(run, 2), made))


@pytest.mark.parametrize(
    ("qualities", "hour"),
    [
        ([], None),
        ([COMPLETE, COMPLETE], 1),
        ([COMPLETE, DEGRADED], 1),
        ([COMPLETE, SUSPECT, SUSPECT], 0),
        ([SUSPECT], None),
    ],
)
def test_the_newest_that_is_not_suspect_is_shared_with(qualities: list[Quality], hour: int | None) -> None:
    snapshots = [stored(number, quality) for number, quality in enumerate(qualities)]
    base = choose_base(snapshots)
    assert (base and base.name) == (None if hour is None else snapshots[hour].name)


def test_what_a_wrong_clock_has_dated_after_a_run_is_not_shared_with() -> None:
    snapshots = [stored(hour, COMPLETE) for hour in (0, 1, 24 * 365)]
    assert before(snapshots, SLOT + timedelta(hours=2)) == snapshots[:2]
    assert before(snapshots, SLOT - timedelta(hours=1)) == []
