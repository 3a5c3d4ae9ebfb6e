"""What the commands say of several drives: which are here, which are not, and how one is made a store."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from click.testing import CliRunner

from services.cli import session
from services.cli.doctor import BAD, GOOD, WARNING, _drives
from services.cli.system import init
from shared.adapters.store import IDENTITY_FILE, Store
from shared.config import Settings, StoreSettings
from shared.domain.errors import StoreRefused, StoreUnknown
from shared.domain.names import StoreName
from tests.support.builders import some_settings

SECOND = StoreName("second")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Two drives that are no stores yet."""
    made = some_settings(root=tmp_path, more_stores=(StoreSettings(name=SECOND, root=tmp_path / "second"),))
    for root in made.stores.values():
        root.mkdir()
    return made


def weights(settings: Settings) -> dict[str, str]:
    """How much weight the first word about each store has."""
    found = _drives(settings)
    return {name: next(weight for weight, said in found if f"{name!r}" in said) for name in settings.stores}


def test_a_drive_of_another_machine_is_no_problem_but_no_drive_at_all_is(settings: Settings) -> None:
    assert weights(settings) == {"main": BAD, "second": BAD}
    Store.create(settings.backup_root, settings.store, uuid.uuid4()).close()
    assert weights(settings) == {"main": GOOD, "second": WARNING}
    Store.create(settings.root_of(SECOND), SECOND, uuid.uuid4()).close()
    assert weights(settings) == {"main": GOOD, "second": GOOD}


def test_a_drive_in_the_place_of_another_is_a_problem(settings: Settings) -> None:
    Store.create(settings.backup_root, settings.store, uuid.uuid4()).close()
    Store.create(settings.root_of(SECOND), StoreName("third"), uuid.uuid4()).close()
    (said,) = [said for weight, said in _drives(settings) if weight == BAD]
    assert "is the store 'third', not 'second'" in said


def test_init_makes_the_store_where_the_settings_say(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "settings_here", lambda: settings)
    runner = CliRunner()
    assert "is now the store 'second'" in runner.invoke(init, ["--store", "second"]).output
    assert (settings.root_of(SECOND) / IDENTITY_FILE).exists()
    assert not (settings.backup_root / IDENTITY_FILE).exists()
    assert "is now the store 'main'" in runner.invoke(init, []).output
    again = runner.invoke(init, ["--store", "second"]).exception
    assert isinstance(again, StoreRefused)
    unknown = runner.invoke(init, ["--store", "third"]).exception
    assert isinstance(unknown, StoreUnknown)
