"""What the drive has and the log has never heard of is told as what it is, and never as something better."""

from __future__ import annotations

import pytest

from services.snapshotter.recovery import recovered
from shared.adapters.markers import Marker, StoredSnapshot
from shared.domain.events import Quality, SnapshotCompleted, SnapshotDiscovered
from shared.domain.host_state import HostState
from shared.domain.ids import event_id
from shared.domain.names import snapshot_name
from tests.support.builders import SLOT, a_run, build


@pytest.mark.parametrize("quality", Quality)
def test_what_is_found_on_the_drive_is_worth_what_its_marker_says(quality: Quality) -> None:
    run, name = a_run(), snapshot_name(SLOT)
    made = build(SnapshotCompleted, run=run, slot=SLOT, snapshot=name, quality=quality, files=3, size_bytes=5)
    (fact,) = recovered(HostState(), [StoredSnapshot(name, Marker(event_id(run, 2), made))], "main")
    assert fact.event == SnapshotDiscovered(
        snapshot=name, slot=SLOT, store="main", quality=quality, files=3, size_bytes=5, run=run
    )
