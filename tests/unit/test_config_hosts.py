"""HOSTS and [hosts.*]: who is backed up, and what can never become a path, an option or shell text."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.config import DEFAULT_CATEGORIES, DEFAULT_EXCLUDES, HostSettings, Settings, load_settings
from shared.domain.errors import SettingsRefused
from shared.domain.names import RESERVED_HOST_NAMES, HostName, parse_host_name

ENVIRON = {"BACKUP_ROOT": "/mnt/backup", "BACKUP_DATA": "/data"}


def load(hosts: str, toml: str = "", tmp_path: Path | None = None) -> Settings:
    toml_file = None
    if tmp_path:
        toml_file = tmp_path / "backup.toml"
        toml_file.write_text(toml, encoding="utf-8")
    return load_settings({**ENVIRON, "HOSTS": hosts}, env_file=None, toml_file=toml_file)


def problems_of(hosts: str, toml: str = "", tmp_path: Path | None = None) -> tuple[str, ...]:
    with pytest.raises(SettingsRefused) as refused:
        load(hosts, toml, tmp_path)
    return refused.value.problems


@pytest.mark.parametrize(
    ("entry", "name", "address", "user", "port"),
    [
        ("server", "server", "server", "root", 22),
        ("n_a-s1", "n_a-s1", "n_a-s1", "root", 22),
        ("nas=nas.lan", "nas", "nas.lan", "root", 22),
        ("nas = nas.lan", "nas", "nas.lan", "root", 22),
        ("nas=NAS.Lan", "nas", "NAS.Lan", "root", 22),
        ("nas=user@nas.lan:2222", "nas", "nas.lan", "user", 2222),
        ("nas=192.0.2.7", "nas", "192.0.2.7", "root", 22),
        ("nas=192.0.2.7:1", "nas", "192.0.2.7", "root", 1),
        ("nas=[::1]:65535", "nas", "::1", "root", 65535),
        ("nas=_me.x-y@[2001:db8::5]", "nas", "2001:db8::5", "_me.x-y", 22),
        ("nas=2001:db8::5", "nas", "2001:db8::5", "root", 22),
    ],
)
def test_an_entry_gives_name_address_user_and_port(entry: str, name: str, address: str, user: str, port: int) -> None:
    (host,) = load(entry).hosts
    assert (host.name, host.address, host.user, host.port) == (name, address, user, port)
    assert (host.store, host.transport, host.paths, host.excludes) == ("main", "ssh", ("/home",), DEFAULT_EXCLUDES)
    assert (host.snapshot_interval_hours, host.bandwidth_limit_kib) == (1, None)


HOSTILE_NAMES = [
    "-oProxyCommand=x", "-o", "../x", "..", ".", "/etc", "a/b", "a;b", "a|b", "a&b", "$(x)", "`x`", "${x}", "a b",
    "a\nb", "nas\n", "\nnas", "a\rb", "a\tb", "a\0b", "a\x1b[2J", "%h", "%", "host:path", "host::module", "rsync://x",
    "user@nas", "nas.lan", "*", ">", "a.b", "NAS", "nаs", "ﬁle", "nas\u200b", "n\u0301as", "nas\u2028", "nas\x85",
    "'nas'", '"nas"', "\\nas", "~", "~root", "!x", "#x", "_nas", "٣", "x" * 64, "x" * 100_000, "nas\udcff",
    *sorted(RESERVED_HOST_NAMES),
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_hostile_name_is_refused_wherever_it_stands(name: str, tmp_path: Path) -> None:
    for entry in (name, f"{name}=nas.lan"):
        (problem,) = problems_of(entry)
        assert problem.startswith("environment: HOSTS entry 1 is ")
        assert "1 to 63 of a-z, 0-9, _ and -" in problem or "these are reserved: archives, current" in problem
        assert problem.isprintable()
        assert problem.replace("…", "").isascii()
        assert len(problem) < 400
    if name not in {"nas\udcff"}:  # such a name cannot be written in a file that is UTF-8
        escaped = "".join(f"\\u{ord(character):04x}" for character in name)
        (problem,) = problems_of("", f'[hosts."{escaped}"]\n', tmp_path)
        assert problem.startswith("backup.toml: the name of hosts.")
        assert problem.isprintable()


HOSTILE_ADDRESSES = [
    "", "-oProxyCommand=x", "-nas", "../x", "a/b", "a;b", "a|b", "$(x)", "`x`", "a b", "a\nb", "nas\n", "a\0b",
    "%h", "fe80::1%eth0", "[fe80::1%$(x)]:22", "[fe80::1%eth0]", "host:path", "host:", "host::module", "nas:0",
    "nas:65536", "nas:-1", "nas:2²", "nas:22:22", "rsync://x", "ssh://nas", "rsync://nas/x", "[nas]", "[nas]:22",
    "[::1", "::1]", "[::1]22", "[::1]:", "[]", "[192.0.2.1]", "1.2.3", "1.2.3.4.5", "256.0.0.1", "nas..lan", ".lan",
    "nas.", "nas.-x", "x" * 64, ".".join(["x" * 63] * 5), "nаs.lan", "nas。lan", "nas\u200b.lan", "*", "~", "#",
    "'nas'", "@nas", "-l@nas", "a b@nas", "$(x)@nas", "a;b@nas", "Root@nas", "a@b@nas", "us\ner@nas",
    "x" * 33 + "@nas", "user:password@nas",
]  # fmt: skip


@pytest.mark.parametrize("address", HOSTILE_ADDRESSES)
def test_a_hostile_address_is_refused(address: str) -> None:
    (problem,) = problems_of(f"nas={address}")
    assert problem.startswith("environment: HOSTS entry 1 is ")
    assert "name or name=[user@]address[:port] with a" in problem
    assert problem.isprintable()
    assert "password" not in problem


@pytest.mark.parametrize("hosts", ["nas,nas", "nas, nas", "nas=a,nas=b", "a,nas,b,nas=x"], ids=str)
def test_a_host_may_be_named_only_once(hosts: str) -> None:
    (problem,) = problems_of(hosts)
    assert "another name, because nas is already in HOSTS" in problem


@pytest.mark.parametrize("hosts", ["a,", ",a", "a,,b"])
def test_an_empty_entry_is_refused(hosts: str) -> None:
    (problem,) = problems_of(hosts)
    assert re.search(r"HOSTS entry [123] is '', but must be name or", problem)


def test_no_hosts_are_allowed() -> None:
    assert load("").hosts == load(" ").hosts == ()


@given(st.text(st.characters(), max_size=80))
@example("a=[::1]:22,b")
@example("\ud800")
def test_any_text_as_hosts_gives_safe_hosts_or_a_refusal(text: str) -> None:
    try:
        hosts = load(text).hosts
    except SettingsRefused as error:
        refused = error
    else:
        _are_safe(hosts)
        return
    assert all(problem.isprintable() for problem in refused.problems)


@given(st.lists(st.text("ab1-_.:@[]=%/ \n,", max_size=12), max_size=4).map(",".join))
def test_text_that_is_nearly_right_gives_safe_hosts_or_a_refusal(text: str) -> None:
    try:
        hosts = load(text).hosts
    except SettingsRefused:
        return
    _are_safe(hosts)


def _are_safe(hosts: tuple[HostSettings, ...]) -> None:
    assert len({host.name for host in hosts}) == len(hosts)
    for host in hosts:
        assert parse_host_name(host.name) == host.name
        assert re.fullmatch(r"[A-Za-z0-9_:][A-Za-z0-9_.:-]*", host.address)
        assert re.fullmatch(r"[a-z_][a-z0-9_.-]*", host.user)
        assert 1 <= host.port <= 65535


NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True).filter(lambda name: name not in RESERVED_HOST_NAMES)


@given(st.lists(NAMES, unique=True, max_size=5))
def test_every_list_of_valid_names_is_accepted_in_its_order(names: list[str]) -> None:
    assert [host.name for host in load(",".join(names)).hosts] == names


@given(st.ip_addresses(), st.integers(1, 65535))
def test_every_ip_address_is_accepted_with_a_port(ip: object, port: int) -> None:
    text = f"[{ip}]" if ":" in str(ip) else str(ip)
    (host,) = load(f"nas={text}:{port}").hosts
    assert (host.address, host.port) == (str(ip), port)


def test_the_toml_refines_a_host_of_the_list_and_adds_others(tmp_path: Path) -> None:
    toml = """
        [hosts.other]
        [hosts.nas]
        port = 7
        key = "/k/id"
        paths = ["/home", "/srv/./share"]
        excludes = ["*.bak"]
        exclude_off = ["media"]
        snapshot_interval_hours = 6
        bandwidth_limit_kib = 512
        store = "second"
        transport = "local"
        [stores.second]
        root = "/mnt/second"
    """
    settings = load("server,nas=me@nas.lan:22", toml, tmp_path)
    assert [host.name for host in settings.hosts] == ["server", "nas", "other"]
    nas = settings.host("nas")
    assert nas is not None
    assert (nas.address, nas.user, nas.port) == ("nas.lan", "me", 7)
    assert (nas.store, nas.transport, nas.paths) == ("second", "local", ("/home", "/srv/./share"))
    assert (nas.snapshot_interval_hours, nas.bandwidth_limit_kib) == (6, 512)
    assert nas.excludes[-1] == "*.bak"
    assert not set(DEFAULT_CATEGORIES["media"]) & set(nas.excludes)
    assert nas.key_path(settings) == Path("/k/id")
    assert settings.host("other") == HostSettings(name=HostName("other"))
    assert settings.host("nobody") is None


def test_keys_are_under_the_data_directory_unless_said(tmp_path: Path) -> None:
    settings = load("a", '[hosts.b]\nknown_hosts = "/k/known"\nssh_config = "/k/config"\n', tmp_path)
    a, b = settings.hosts
    assert a.key_path(settings) == Path("/data/keys/a/id_ed25519")
    assert a.known_hosts_path(settings) == Path("/data/keys/a/known_hosts")
    assert a.ssh_config_path() == Path("/dev/null")
    assert (b.known_hosts_path(settings), b.ssh_config_path()) == (Path("/k/known"), Path("/k/config"))


def test_categories_can_be_added_and_switched_off_for_all_or_for_one_host(tmp_path: Path) -> None:
    toml = """
        [excludes]
        off = ["temp"]
        own = { games = [".steam/", "*cache*"], empty = [] }
        [hosts.a]
        exclude_off = ["games", "caches"]
    """
    a, b = load("a,b", toml, tmp_path).hosts
    off = set(DEFAULT_CATEGORIES["temp"])
    assert set(b.excludes) == set(DEFAULT_EXCLUDES) - off | {".steam/"}
    assert b.excludes.count("*cache*") == 1
    assert set(a.excludes) == set(DEFAULT_EXCLUDES) - off - set(DEFAULT_CATEGORIES["caches"])


def test_an_unknown_category_of_a_host_is_told_the_own_ones_too(tmp_path: Path) -> None:
    (problem,) = problems_of("", '[excludes.own]\ngames = []\n[hosts.a]\nexclude_off = ["game"]\n', tmp_path)
    assert "pseudo, games" in problem
