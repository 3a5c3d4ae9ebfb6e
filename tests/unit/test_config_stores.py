"""Several drives in the settings: each store has a root of its own, and each host a store that there is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config import Settings, StoreSettings, load_settings
from shared.config.problems import Problems
from shared.config.stores import check_roots
from shared.domain.errors import SettingsRefused, StoreRefused, StoreUnknown
from shared.domain.names import StoreName

ROOT = {"BACKUP_ROOT": "/mnt/backup", "BACKUP_DATA": "/data"}
TWO = '[stores.second]\nroot = "/mnt/second"\n[hosts.nas]\nstore = "second"\n'


def load(toml: str, tmp_path: Path, **variables: str) -> Settings:
    path = tmp_path / "backup.toml"
    path.write_text(toml, encoding="utf-8")
    return load_settings({**ROOT, **variables}, env_file=None, toml_file=path)


def test_without_a_table_there_is_one_store_and_nothing_new_in_the_description(tmp_path: Path) -> None:
    settings = load("[hosts.nas]\n", tmp_path)
    assert dict(settings.stores) == {"main": Path("/mnt/backup")}
    assert not [key for key in settings.described() if key.startswith("stores.")]


def test_every_host_has_the_folder_of_its_store(tmp_path: Path) -> None:
    settings = load(TWO, tmp_path, HOSTS="pi")
    assert dict(settings.stores) == {"main": Path("/mnt/backup"), "second": Path("/mnt/second")}
    assert settings.root_of("second") == Path("/mnt/second")
    assert settings.folder_of("nas") == Path("/mnt/second/nas")
    assert settings.folder_of("pi") == Path("/mnt/backup/pi")
    assert settings.folder_of("once-was") == Path("/mnt/backup/once-was")
    assert settings.described()["stores.second.root"] == "/mnt/second"


def test_a_store_that_is_not_in_the_settings_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(StoreUnknown) as unknown:
        load(TWO, tmp_path).root_of("third")
    assert "'third'" in unknown.value.message
    assert "main, second" in unknown.value.message
    assert "[stores.third]" in unknown.value.hint
    assert isinstance(unknown.value, StoreRefused)


@pytest.mark.parametrize("root", ["/mnt/backup", "/mnt/backup/x", "/mnt", "/mnt/backup/"])
def test_a_store_at_in_or_around_another_is_refused(root: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsRefused) as refused:
        load(f'[stores.second]\nroot = "{root}"\n', tmp_path)
    (problem,) = refused.value.problems
    assert "stores.second.root" in problem
    assert "BACKUP_ROOT" in problem


def test_restores_never_go_into_any_store(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsRefused, match=r"RESTORE_FOLDERS has /mnt/second/r, but must not contain stores\.second"
    ):
        load(TWO, tmp_path, RESTORE_FOLDERS="/srv,/mnt/second/r")


PARTS = st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map(lambda parts: Path("/", *parts))


@given(PARTS, st.lists(PARTS, max_size=3))
def test_roots_are_refused_exactly_when_one_lies_in_another(first: Path, others: list[Path]) -> None:
    stores = tuple(StoreSettings(name=StoreName(f"s{number}"), root=root) for number, root in enumerate(others))
    settings = Settings(backup_root=first, data_dir=Path("/data"), more_stores=stores)
    problems = Problems()
    check_roots(settings, problems)
    roots = [first, *others]
    apart = all(
        one.parts[: len(two.parts)] != two.parts
        for number, one in enumerate(roots)
        for other, two in enumerate(roots)
        if number != other
    )
    assert (problems.sentences == []) is apart
