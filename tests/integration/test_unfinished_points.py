"""Only what bears its marker is read as a restore point, whatever lies under the name of one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.restorer.selection import being_read
from shared.adapters.markers import MARKER_FILE
from shared.adapters.store import HostFolder
from shared.domain.errors import RunFailed
from shared.domain.events import Kind
from shared.domain.names import snapshot_name
from tests.support.builders import SLOT
from tests.support.places import new_place
from tests.support.stock import put_golden, put_snapshot, stocked

MONTH = "2026-03"


@pytest.fixture
def folder() -> Iterator[HostFolder]:
    with new_place() as place, stocked(place / "drive") as made:
        put_snapshot(made, SLOT)
        put_golden(made, SLOT, MONTH)
        yield made


@pytest.mark.parametrize(
    ("kind", "name"), [(Kind.SNAPSHOT, f"hourly/{snapshot_name(SLOT)}"), (Kind.GOLDEN, f"monthly/{MONTH}")]
)
def test_only_what_bears_its_marker_is_restored(folder: HostFolder, kind: Kind, name: str) -> None:
    point = Path(name).name
    with being_read(folder, kind, point) as source:
        assert source.name == point
    (folder.path / name / MARKER_FILE).unlink()
    with pytest.raises(RunFailed) as failed, being_read(folder, kind, point):
        pass
    assert failed.value.code == "point"
