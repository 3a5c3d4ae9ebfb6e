"""Settings: what the environment, .env and backup.toml give, and how every wrong value is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config import DEFAULT_CATEGORIES, BusTiming, Settings, load_settings
from shared.domain.errors import SettingsRefused

ROOT = {"BACKUP_ROOT": "/mnt/backup", "BACKUP_DATA": "/data"}


def load(**variables: str) -> Settings:
    return load_settings({**ROOT, **variables}, env_file=None, toml_file=None)


def load_toml(toml: str, tmp_path: Path, **variables: str) -> Settings:
    path = tmp_path / "backup.toml"
    path.write_text(toml, encoding="utf-8")
    return load_settings({**ROOT, **variables}, env_file=None, toml_file=path)


def problems_of(**variables: str) -> tuple[str, ...]:
    with pytest.raises(SettingsRefused) as refused:
        load(**variables)
    return refused.value.problems


def problems_of_toml(toml: str, tmp_path: Path, **variables: str) -> tuple[str, ...]:
    with pytest.raises(SettingsRefused) as refused:
        load_toml(toml, tmp_path, **variables)
    return refused.value.problems


def test_the_defaults_are_those_of_the_design() -> None:
    settings = load_settings({"BACKUP_ROOT": "/mnt/backup", "HOME": "/root"}, env_file=None, toml_file=None)
    assert settings.backup_root == Path("/mnt/backup")
    assert (settings.snapshot_interval_hours, settings.tar_interval_hours) == (1, 4)
    assert (settings.tar_retention_days, settings.tar_compression_level) == (5, 6)
    assert (settings.hourly_retention_hours, settings.daily_retention_days) == (720, 180)
    assert (settings.keep_monthly_snapshots, settings.snapshot_day_of_month) == (True, 1)
    assert (settings.retention_months, settings.tz, settings.store) == (24, "UTC", "main")
    assert (settings.nats_url, settings.postgres_dsn, settings.hosts) == ("", "", ())
    assert settings.timing == BusTiming(
        ack_wait_seconds=90, heartbeat_seconds=15.0, offline_retry_seconds=300, retry_seconds=60, max_attempts=3
    )


def test_every_variable_is_read() -> None:
    settings = load(
        SNAPSHOT_INTERVAL_HOURS="2", TAR_INTERVAL_HOURS="3", TAR_RETENTION_DAYS="4", TAR_COMPRESSION_LEVEL="5",
        HOURLY_RETENTION_HOURS="6", DAILY_RETENTION_DAYS="7", KEEP_MONTHLY_SNAPSHOTS="No",
        SNAPSHOT_DAY_OF_MONTH="8", RETENTION_MONTHS="9", TZ="Europe/Berlin", NATS_URL="nats://a:4222,tls://b:4222",
        POSTGRES_DSN="postgresql://u:p@h/d", POSTGRES_ADMIN_DSN="postgres://a:b@h/d", HOSTS="server",
    )  # fmt: skip
    assert (settings.snapshot_interval_hours, settings.tar_interval_hours) == (2, 3)
    assert (settings.tar_retention_days, settings.tar_compression_level) == (4, 5)
    assert (settings.hourly_retention_hours, settings.daily_retention_days) == (6, 7)
    assert (settings.keep_monthly_snapshots, settings.snapshot_day_of_month) == (False, 8)
    assert (settings.retention_months, settings.tz) == (9, "Europe/Berlin")
    assert (settings.nats_url, settings.postgres_dsn) == ("nats://a:4222,tls://b:4222", "postgresql://u:p@h/d")
    assert settings.data_dir == Path("/data")
    assert [host.snapshot_interval_hours for host in settings.hosts] == [2]


WHOLE_NUMBERS = [
    ("SNAPSHOT_INTERVAL_HOURS", 1, 744),
    ("TAR_INTERVAL_HOURS", 1, 744),
    ("TAR_RETENTION_DAYS", 1, 3660),
    ("TAR_COMPRESSION_LEVEL", 1, 9),
    ("HOURLY_RETENTION_HOURS", 1, 87840),
    ("DAILY_RETENTION_DAYS", 1, 36600),
    ("SNAPSHOT_DAY_OF_MONTH", 1, 28),
    ("RETENTION_MONTHS", 1, 1200),
]


@pytest.mark.parametrize(("key", "low", "high"), WHOLE_NUMBERS)
def test_a_whole_number_is_allowed_up_to_its_bounds_and_not_beyond(key: str, low: int, high: int) -> None:
    for number in (low, high):
        assert getattr(load(**{key: str(number)}), key.lower()) == number
    for wrong in (low - 1, high + 1, -1):
        (problem,) = problems_of(**{key: str(wrong)})
        assert problem.startswith(f"environment: {key} is '{wrong}', but must be a whole number from {low} to {high}")


ENV_REFUSED = [
    ("BACKUP_ROOT", "", "absolute path"),
    ("BACKUP_ROOT", "backup", "absolute path"),
    ("BACKUP_ROOT", "~/backup", "absolute path"),
    ("BACKUP_ROOT", "/mnt/../etc", "without .."),
    ("BACKUP_ROOT", "/mnt/a\nb", "control characters"),
    ("BACKUP_ROOT", "/mnt/a\0b", "control characters"),
    ("BACKUP_ROOT", "/mnt/\udcff", "control characters"),
    ("BACKUP_ROOT", "/" + "x" * 5000, "absolute path"),
    ("BACKUP_ROOT", "/", "not the root of this machine"),
    ("BACKUP_ROOT", "//", "not the root of this machine"),
    ("BACKUP_DATA", "data", "absolute path"),
    ("BACKUP_DATA", "/my data", "without spaces"),
    ("BACKUP_DATA", "/data/%h", "which ssh would change"),
    ("BACKUP_DATA", "/data/${HOME}", "which ssh would change"),
    ("SNAPSHOT_INTERVAL_HOURS", "1.5", "from 1 to 744"),
    ("SNAPSHOT_INTERVAL_HOURS", "1h", "from 1 to 744"),
    ("SNAPSHOT_INTERVAL_HOURS", " 1", "from 1 to 744"),
    ("TAR_INTERVAL_HOURS", "four", "from 1 to 744"),
    ("TAR_INTERVAL_HOURS", "1_0", "from 1 to 744"),
    ("TAR_RETENTION_DAYS", "-5", "from 1 to 3660"),
    ("TAR_RETENTION_DAYS", "+5", "from 1 to 3660"),
    ("TAR_COMPRESSION_LEVEL", "10", "from 1 to 9"),
    ("TAR_COMPRESSION_LEVEL", "²", "from 1 to 9"),
    ("HOURLY_RETENTION_HOURS", "٧٢٠", "from 1 to 87840"),
    ("DAILY_RETENTION_DAYS", "1e2", "from 1 to 36600"),
    ("DAILY_RETENTION_DAYS", "9" * 5000, "from 1 to 36600"),
    ("RETENTION_MONTHS", "0x18", "from 1 to 1200"),
    ("SNAPSHOT_DAY_OF_MONTH", "31", "from 1 to 28, the days that every month has"),
    ("KEEP_MONTHLY_SNAPSHOTS", "on", "true, false, yes, no, 1, 0"),
    ("KEEP_MONTHLY_SNAPSHOTS", "2", "true, false, yes, no, 1, 0"),
    ("TZ", "Europe/Bonn", "IANA name"),
    ("TZ", "Europe", "IANA name"),
    ("TZ", "CEST", "IANA name"),
    ("TZ", ":/etc/localtime", "IANA name"),
    ("TZ", "../../etc/passwd", "IANA name"),
    ("TZ", "/etc/localtime", "IANA name"),
    ("TZ", "localtime", "IANA name"),
    ("TZ", "right/Europe/Berlin", "IANA name"),
    ("NATS_URL", "localhost:4222", "nats://"),
    ("NATS_URL", "nats://a:4222, b:4222", "separated by commas"),
    ("NATS_URL", "http://nats", "nats://"),
    ("POSTGRES_DSN", "host=db user=x", "postgresql://"),
    ("POSTGRES_DSN", "mysql://u:p@h/d", "postgresql://"),
    ("POSTGRES_ADMIN_DSN", "postgres://a b", "postgresql://"),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "allowed"), ENV_REFUSED)
def test_a_wrong_variable_is_said_with_its_key_and_what_is_allowed(key: str, value: str, allowed: str) -> None:
    (problem,) = problems_of(**{key: value})
    assert re.match(rf"(\.env or )?environment: {key} ", problem)
    assert allowed in problem
    assert problem.endswith(".")
    assert len(problem) < 300
    assert problem.isascii() or "…" in problem


TOML_REFUSED = [
    ("hots = 1", "hots", "did you mean hosts?"),
    ("[quota]\nbytes = 1", "quota", "known here are bus, excludes, hosts"),
    ("[hooks]", "hooks", "is not a setting"),
    ("hosts = 3", "hosts", "a table, written as [hosts]"),
    ("[hosts]\nnas = 3", "hosts.nas", "a table, written as [hosts.nas]"),
    ("[[hosts.nas]]\nport = 1", "hosts.nas", "a table"),
    ("[hosts.nas]\nprot = 22", "hosts.nas.prot", "did you mean port?"),
    ("[hosts.nas]\nquota = 1", "hosts.nas.quota", "is not a setting"),
    ("[hosts.nas]\nport = 0", "hosts.nas.port", "from 1 to 65535"),
    ("[hosts.nas]\nport = 65536", "hosts.nas.port", "from 1 to 65535"),
    ('[hosts.nas]\nport = "22"', "hosts.nas.port", "from 1 to 65535"),
    ("[hosts.nas]\nport = true", "hosts.nas.port", "from 1 to 65535"),
    ("[hosts.nas]\nport = 22.0", "hosts.nas.port", "from 1 to 65535"),
    (f"[hosts.nas]\nport = 0x{'f' * 9000}", "hosts.nas.port", "from 1 to 65535"),
    ('[hosts.nas]\nuser = "-l"', "hosts.nas.user", "a user name of"),
    ('[hosts.nas]\nuser = "root;x"', "hosts.nas.user", "a user name of"),
    ('[hosts.nas]\nuser = ""', "hosts.nas.user", "a user name of"),
    ('[hosts.nas]\naddress = "-oProxyCommand=x"', "hosts.nas.address", "a host name, an IPv4"),
    ('[hosts.nas]\naddress = "nas.lan:22"', "hosts.nas.address", "a host name, an IPv4"),
    ('[hosts.nas]\naddress = "me@nas.lan"', "hosts.nas.address", "a host name, an IPv4"),
    ("[hosts.nas]\naddress = 7", "hosts.nas.address", "a host name, an IPv4"),
    ('[hosts.nas]\nkey = "~/.ssh/id"', "hosts.nas.key", "absolute path"),
    ('[hosts.nas]\nkey = "/my keys/id"', "hosts.nas.key", "without spaces"),
    ('[hosts.nas]\nknown_hosts = "/k/%h"', "hosts.nas.known_hosts", "without spaces"),
    ('[hosts.nas]\nssh_config = "config"', "hosts.nas.ssh_config", "absolute path"),
    ('[hosts.nas]\ntransport = "rsync"', "hosts.nas.transport", "one of ssh, local"),
    ("[hosts.nas]\ntransport = 1", "hosts.nas.transport", "one of ssh, local"),
    ('[hosts.nas]\nstore = "../x"', "hosts.nas.store", "a store name"),
    ('[hosts.nas]\nstore = "secnd"', "hosts.nas.store", "one of main; another store needs a table [stores.secnd]"),
    ('[stores.x]\nroot = "/x"\n[hosts.nas]\nstore = "y"', "hosts.nas.store", "one of main, x"),
    ("[stores.x]", "stores.x", "a table with root"),
    ('[stores.x]\nroot = "mnt"', "stores.x.root", "absolute path"),
    ('[stores.x]\nroot = "/"', "stores.x.root", "not the root of this machine"),
    ('[stores.x]\nroot = "/x"\nuuid = "1"', "stores.x.uuid", "known here are root"),
    ('[stores.main]\nroot = "/x"', "stores.main", "BACKUP_ROOT"),
    ('[stores."../x"]\nroot = "/x"', "stores.'../x'", "a store name"),
    ('[stores]\nx = "/x"', "stores.x", "a table, written as [stores.x]"),
    ('[hosts.nas]\npaths = "/home"', "hosts.nas.paths", "a list, written as"),
    ("[hosts.nas]\npaths = []", "hosts.nas.paths", "at least one path"),
    ('[hosts.nas]\npaths = ["/a", "home"]', "hosts.nas.paths entry 2", "absolute path"),
    ('[hosts.nas]\npaths = ["/home/../etc"]', "hosts.nas.paths entry 1", "without .."),
    ('[hosts.nas]\npaths = ["/a\\nb"]', "hosts.nas.paths entry 1", "control characters"),
    ('[hosts.nas]\npaths = ["/a\\u0000"]', "hosts.nas.paths entry 1", "control characters"),
    ('[hosts.nas]\npaths = ["/a/./b/./c"]', "hosts.nas.paths entry 1", "at most once"),
    ('[hosts.nas]\npaths = ["/a", "/a"]', "hosts.nas.paths", "every path stands once"),
    ("[hosts.nas]\npaths = [1]", "hosts.nas.paths entry 1", "absolute path"),
    ('[hosts.nas]\nexcludes = [""]', "hosts.nas.excludes entry 1", "an rsync pattern"),
    ('[hosts.nas]\nexcludes = ["a\\nb"]', "hosts.nas.excludes entry 1", "an rsync pattern"),
    ('[hosts.nas]\nexcludes = ["!"]', "hosts.nas.excludes entry 1", "not '!'"),
    ('[hosts.nas]\nexcludes = ["+ *"]', "hosts.nas.excludes entry 1", "not beginning with '+ '"),
    ("[hosts.nas]\nexcludes = [[]]", "hosts.nas.excludes entry 1", "an rsync pattern"),
    ('[hosts.nas]\nexclude_off = ["movies"]', "hosts.nas.exclude_off entry 1", ", ".join(DEFAULT_CATEGORIES)),
    ("[hosts.nas]\nsnapshot_interval_hours = 745", "hosts.nas.snapshot_interval_hours", "from 1 to 744"),
    ("[hosts.nas]\nbandwidth_limit_kib = 0", "hosts.nas.bandwidth_limit_kib", "or left out for no limit"),
    ("[excludes]\noof = []", "excludes.oof", "did you mean off?"),
    ('[excludes]\noff = ["x"]', "excludes.off entry 1", ", ".join(DEFAULT_CATEGORIES)),
    ('[excludes]\nown = ["x"]', "excludes.own", "a table"),
    ('[excludes.own]\nmedia = ["x"]', "excludes.own.media", "media is a category already"),
    ('[excludes.own]\n"A B" = ["x"]', "excludes.own.'A B'", "a category name of"),
    ('[excludes.own]\ngames = "x"', "excludes.own.games", "a list"),
    ("[bus]\nack_wait = 90", "bus.ack_wait", "did you mean ack_wait_seconds?"),
    ("[bus]\nack_wait_seconds = 20", "bus.ack_wait_seconds", "less than half"),
    ("[bus]\nack_wait_seconds = 0", "bus.ack_wait_seconds", "from 1 to 3600"),
    ("[bus]\nheartbeat_seconds = 45", "bus.heartbeat_seconds", "less than half"),
    ("[bus]\nheartbeat_seconds = nan", "bus.heartbeat_seconds", "a number from 0.05 to 600"),
    ("[bus]\nheartbeat_seconds = inf", "bus.heartbeat_seconds", "a number from 0.05 to 600"),
    ('[bus]\nheartbeat_seconds = "15"', "bus.heartbeat_seconds", "a number from 0.05 to 600"),
    ("[bus]\noffline_retry_seconds = 1.5", "bus.offline_retry_seconds", "from 1 to 86400"),
    ("[bus]\nretry_seconds = false", "bus.retry_seconds", "from 1 to 86400"),
    ("[bus]\nmax_attempts = 0", "bus.max_attempts", "from 1 to 100"),
]  # fmt: skip


@pytest.mark.parametrize(("toml", "key", "allowed"), TOML_REFUSED)
def test_a_wrong_value_of_the_toml_is_said_with_its_key_and_what_is_allowed(
    toml: str, key: str, allowed: str, tmp_path: Path
) -> None:
    (problem,) = problems_of_toml(toml, tmp_path)
    assert re.match(rf"backup\.toml: (the name of )?{re.escape(key)} (is|must be) ", problem)
    assert allowed in problem
    assert problem.endswith((".", "?"))
    assert len(problem) < 400


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    problems = problems_of_toml(
        "[bus]\nmax_attempts = 0\nx = 1\n", tmp_path, BACKUP_ROOT="x", TZ="x", HOSTS="../x,a;b", BACKUP_ROOOT="/"
    )
    assert len(problems) == 7
    assert [problem for problem in problems if "BACKUP_ROOOT is not a setting; did you mean BACKUP_ROOT?" in problem]


def test_foreign_names_of_the_environment_are_left_alone_but_not_those_that_begin_with_backup() -> None:
    assert load(PATH="/bin", SNAPSHOT_INTERVAL="7", NATS="x") == load()
    (problem,) = problems_of(BACKUP_PATH="secret-word")
    assert "BACKUP_PATH is not a setting" in problem
    assert "secret-word" not in problem


def test_an_empty_variable_of_the_environment_counts_as_not_given() -> None:
    assert load(TZ="", TAR_RETENTION_DAYS="", HOSTS="") == load()


@pytest.mark.parametrize("key", ["NATS_URL", "POSTGRES_DSN", "POSTGRES_ADMIN_DSN"])
def test_no_message_shows_a_password(key: str) -> None:
    for value in ("foo://user:hunter2@host/db", "host=db password=hunter2"):
        (problem,) = problems_of(**{key: value})
        assert "hunter2" not in problem
    for name, value in (("BACKUP_ROOT", "postgres://user:hunter2@host"), ("HOSTS", "ssh://me:hunter2@nas")):
        assert all("hunter2" not in problem for problem in problems_of(**{name: value}))


def test_the_settings_show_no_password_when_printed_or_described() -> None:
    settings = load(NATS_URL="nats://u:hunter2@h", POSTGRES_DSN="postgres://u:hunter2@h/d", HOSTS="nas")
    assert "hunter2" not in repr(settings) + str(settings.described()) + str(list(settings.__rich_repr__()))


@given(st.dictionaries(st.sampled_from([key for key, *_ in ENV_REFUSED]), st.text(max_size=40)))
def test_no_text_at_all_raises_anything_but_refusals(variables: dict[str, str]) -> None:
    try:
        settings = load(**variables)
    except SettingsRefused as error:
        refused = error
    else:
        assert settings.backup_root.is_absolute()
        assert 1 <= settings.snapshot_day_of_month <= 28
        return
    assert refused.problems
    assert all("\n" not in problem for problem in refused.problems)
