"""The hosts: those of HOSTS, refined and joined by the tables [hosts.<name>] of backup.toml."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, cast

from shared.config import rules
from shared.config.excludes import exclude_list
from shared.config.problems import Given, Problems, Table, Unallowed
from shared.config.rules import Endpoint
from shared.config.settings import DEFAULT_PATHS, DEFAULT_STORE, HostSettings, Transport
from shared.config.stores import known_store
from shared.domain.names import HostName

BANDWIDTH_KIB_MAX: Final = 100_000_000
INTERVAL_HOURS_MAX: Final = 744
QUOTA_GIB_MAX: Final = 1_000_000
HOST_KEYS: Final = frozenset(
    {
        "address", "user", "port", "key", "known_hosts", "ssh_config", "transport", "paths", "excludes",
        "exclude_off", "snapshot_interval_hours", "bandwidth_limit_kib", "quota_gib", "store",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for every host that says nothing else."""

    snapshot_interval_hours: int
    categories: Mapping[str, tuple[str, ...]]
    categories_off: frozenset[str]
    stores: Collection[str]


def hosts_of_list(given: Given | None, problems: Problems) -> dict[HostName, Endpoint]:
    """The hosts of HOSTS, in its order; the first of two entries with one name counts."""
    hosts: dict[HostName, Endpoint] = {}
    if given is None or not str(given.value).strip(" \t"):
        return hosts
    for number, padded in enumerate(str(given.value).split(","), start=1):
        entry = padded.strip(" \t")
        named = Given(given.where, f"{given.key} entry {number}", entry)
        try:
            name, endpoint = host_entry(entry)
        except Unallowed as error:
            problems.wrong(named, str(error))
            continue
        if name in hosts:
            problems.wrong(named, f"another name, because {name} is already in {given.key}")
        else:
            hosts[name] = endpoint
    return hosts


def host_entry(entry: str) -> tuple[HostName, Endpoint]:
    """The name and endpoint of `name` or `name=[user@]address[:port]`. Raises Unallowed."""
    text, equals, place = entry.partition("=")
    try:
        name = rules.host_name(text.rstrip(" \t"))
        return name, rules.endpoint(place.lstrip(" \t")) if equals else Endpoint(name)
    except Unallowed as error:
        raise Unallowed(f"name or name=[user@]address[:port] with {error}") from error


def hosts_of_tables(listed: Mapping[HostName, Endpoint], tables: Table, defaults: Defaults) -> tuple[HostSettings, ...]:
    """Every host: first those of HOSTS, then those that only backup.toml names."""
    named = [rules.host_name(key) for key in tables.content if tables.named(key, rules.host_name)]
    names = dict.fromkeys([*listed, *named])
    return tuple(_host(name, listed.get(name), tables, defaults) for name in names)


def _host(name: HostName, listed: Endpoint | None, tables: Table, defaults: Defaults) -> HostSettings:
    table = tables.table(name, known=HOST_KEYS)
    endpoint = listed or Endpoint(name)
    return HostSettings(
        name=name,
        store=table.value("store", known_store(defaults.stores), DEFAULT_STORE),
        transport=cast("Transport", table.value("transport", rules.one_of(("ssh", "local")), "ssh")),
        address=table.value("address", rules.address, endpoint.address),
        user=table.value("user", rules.user, endpoint.user or "root"),
        port=table.value("port", rules.whole(1, 65535), endpoint.port or 22),
        key=table.value("key", rules.ssh_path, None),
        known_hosts=table.value("known_hosts", rules.ssh_path, None),
        ssh_config=table.value("ssh_config", rules.ssh_path, None),
        paths=_paths(table),
        excludes=_excludes(table, defaults),
        snapshot_interval_hours=table.value(
            "snapshot_interval_hours", rules.whole(1, INTERVAL_HOURS_MAX), defaults.snapshot_interval_hours
        ),
        bandwidth_limit_kib=table.value(
            "bandwidth_limit_kib",
            rules.whole(1, BANDWIDTH_KIB_MAX, " (KiB/s), or left out for no limit"),
            None,
        ),
        quota_gib=table.value("quota_gib", rules.whole(1, QUOTA_GIB_MAX, " (GiB), or left out for no limit"), None),
    )


def _paths(table: Table) -> tuple[str, ...]:
    if "paths" not in table.content:
        return DEFAULT_PATHS
    paths = table.values("paths", rules.source_path)
    if table.content["paths"] == []:
        table.wrong("paths", "a list with at least one path, or left out for /home")
    if len(set(paths)) < len(paths):
        table.wrong("paths", "a list in which every path stands once")
    return paths


def _excludes(table: Table, defaults: Defaults) -> tuple[str, ...]:
    off = table.values("exclude_off", rules.one_of(tuple(defaults.categories)))
    own = table.values("excludes", rules.pattern)
    return exclude_list(defaults.categories, off=defaults.categories_off.union(off), own=own)
