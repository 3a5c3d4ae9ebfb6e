"""The description of settings that goes into the log, and the list of what is not backed up."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from shared.config import DEFAULT_CATEGORIES, DEFAULT_EXCLUDES, BusTiming, Settings, load_settings
from shared.config.building import NUMBERS
from shared.config.excludes import exclude_list

ROOT = {"BACKUP_ROOT": "/mnt/backup", "BACKUP_DATA": "/data"}


def load(**variables: str) -> Settings:
    return load_settings({**ROOT, **variables}, env_file=None, toml_file=None)


def load_toml(toml: str, tmp_path: Path, **variables: str) -> Settings:
    path = tmp_path / "backup.toml"
    path.write_text(toml, encoding="utf-8")
    return load_settings({**ROOT, **variables}, env_file=None, toml_file=path)


def test_every_change_of_behaviour_changes_the_description(tmp_path: Path) -> None:
    before = load_toml("", tmp_path, HOSTS="nas").described()
    changes = [f"[hosts.nas]\n{line}" for line in (
        'address = "x"', 'user = "x"', "port = 1", 'key = "/x"', 'known_hosts = "/x"', 'ssh_config = "/x"',
        'transport = "local"', 'paths = ["/x"]', 'excludes = ["x"]', 'exclude_off = ["media"]',
        "snapshot_interval_hours = 2", "bandwidth_limit_kib = 1", 'store = "x"\n[stores.x]\nroot = "/x"',
    )]  # fmt: skip
    changes += [f"[bus]\n{key} = 31" for key in BusTiming.__struct_fields__ if key != "ack_wait_seconds"]
    changes += ['[stores.x]\nroot = "/x"']
    changes += ["[bus]\nack_wait_seconds = 91", '[excludes]\noff = ["media"]', '[excludes.own]\nx = ["y"]']
    for toml in changes:
        assert load_toml(toml, tmp_path, HOSTS="nas").described() != before, toml
    for key in NUMBERS:
        assert load(HOSTS="nas", **{key: "9"}).described()[key] == "9"


def test_the_description_is_sorted_flat_text_and_does_not_depend_on_the_order_of_hosts() -> None:
    described = load(HOSTS="a,b").described()
    assert list(described) == sorted(described)
    assert all(isinstance(value, str) for value in described.values())
    assert described == load(HOSTS="b,a").described()
    assert described["HOSTS"] == '["a", "b"]'
    assert described["KEEP_MONTHLY_SNAPSHOTS"] == "true"
    assert described["hosts.a.bandwidth_limit_kib"] == "none"
    assert described["hosts.a.key"] == "/data/keys/a/id_ed25519"
    assert not {"NATS_URL", "POSTGRES_DSN", "nats_url", "postgres_dsn"} & set(described)


@given(st.dictionaries(st.sampled_from(sorted(NUMBERS)), st.integers(1, 9)))
def test_the_description_is_a_function_of_what_was_given(numbers: dict[str, int]) -> None:
    variables = {key: str(number) for key, number in numbers.items()}
    variables |= {"HOURLY_RETENTION_HOURS": "90", "SNAPSHOT_INTERVAL_HOURS": "9"}  # whatever else: it keeps enough
    backwards = dict(reversed(variables.items()))
    assert list(load(**variables).described().items()) == list(load(**backwards).described().items())


def test_the_default_excludes_are_every_category_once() -> None:
    listed = [pattern for patterns in DEFAULT_CATEGORIES.values() for pattern in patterns]
    assert list(DEFAULT_EXCLUDES) == listed
    assert len(listed) == 41
    assert len(DEFAULT_CATEGORIES) == 10


CATEGORIES = st.dictionaries(st.sampled_from("abcd"), st.lists(st.sampled_from("wxyz"), max_size=4).map(tuple))


@given(CATEGORIES, st.sets(st.sampled_from("abcd")), st.lists(st.sampled_from("vwx")))
def test_an_exclude_list_has_the_patterns_of_what_is_on_and_the_own_ones_each_once(
    categories: dict[str, tuple[str, ...]], off: set[str], own: list[str]
) -> None:
    patterns = exclude_list(categories, off=off, own=own)
    expected = set(own).union(*(listed for name, listed in categories.items() if name not in off))
    assert set(patterns) == expected
    assert len(patterns) == len(expected)
