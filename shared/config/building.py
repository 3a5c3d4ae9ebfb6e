"""From what was given to Settings: pure, no file is read and no environment is looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, cast

import msgspec

from shared.config import rules
from shared.config.excludes import DEFAULT_CATEGORIES
from shared.config.hosts import INTERVAL_HOURS_MAX, Defaults, hosts_of_list, hosts_of_tables
from shared.config.problems import Given, Problems, Rule, T, Table
from shared.config.settings import DEFAULT_STORE, BusTiming, HostSettings, Settings, StoreSettings, TarFormat
from shared.config.stores import check_roots, root_key, stores_of_tables
from shared.domain.policy import FLOOR

NUMBERS: Final[Mapping[str, tuple[Rule[int], int]]] = {
    "SNAPSHOT_INTERVAL_HOURS": (rules.whole_text(1, INTERVAL_HOURS_MAX), 1),
    "TAR_INTERVAL_HOURS": (rules.whole_text(1, INTERVAL_HOURS_MAX), 4),
    "TAR_RETENTION_DAYS": (rules.whole_text(1, 3_660), 5),
    "TAR_COMPRESSION_LEVEL": (rules.whole_text(1, 9), 6),
    "HOURLY_RETENTION_HOURS": (rules.whole_text(1, 87_840), 720),
    "DAILY_RETENTION_DAYS": (rules.whole_text(1, 36_600), 180),
    "SNAPSHOT_DAY_OF_MONTH": (rules.whole_text(1, 28, ", the days that every month has"), 1),
    "RETENTION_MONTHS": (rules.whole_text(1, 1_200), 24),
    "TRASH_HOURS": (rules.whole_text(1, 8_760), 24),
}
"""The whole numbers of .env: their rules and defaults."""

SECRETS: Final = frozenset({"NATS_URL", "POSTGRES_DSN", "POSTGRES_ADMIN_DSN"})
PASSWORD_FILES: Final[Mapping[str, str]] = {
    "POSTGRES_PASSWORD_FILE": "POSTGRES_DSN",
    "POSTGRES_ADMIN_PASSWORD_FILE": "POSTGRES_ADMIN_DSN",
}
"""The files that hold a password alone, and whose password it is."""

KNOWN_VARIABLES: Final = frozenset(
    {
        *NUMBERS,
        *SECRETS,
        *PASSWORD_FILES,
        "NATS_NKEY_FILE",
        "BACKUP_ROOT",
        "BACKUP_DATA",
        "HOSTS",
        "KEEP_MONTHLY_SNAPSHOTS",
        "TAR_FORMAT",
        "TZ",
        "API_LISTEN",
        "RESTORE_FOLDERS",
        "NATS_REPLICAS",
    }
)
ENVIRONMENT: Final = "environment"
NOWHERE: Final = Path("/nonexistent")
"""Stands in for a path that is wrong or missing; no Settings with it are ever handed out."""


def effective(environ: Mapping[str, str], lines: Mapping[str, Given], problems: Problems) -> dict[str, Given]:
    """What is given for each known name: by the environment, or else by the .env file.

    An empty variable of the environment counts as not given: compose files pass unset ones on like that. The
    environment is full of foreign names, so only those that begin with BACKUP_ must be known.
    """
    for given in lines.values():
        if given.key not in KNOWN_VARIABLES:
            problems.unknown(given.where, given.key, KNOWN_VARIABLES)
    for name in environ:
        if name.startswith("BACKUP_") and name not in KNOWN_VARIABLES:
            problems.unknown(ENVIRONMENT, name, KNOWN_VARIABLES)
    found: dict[str, Given] = {}
    for name in sorted(KNOWN_VARIABLES):
        if environ.get(name):
            found[name] = Given(ENVIRONMENT, name, environ[name], secret=name in SECRETS)
        elif name in lines:
            found[name] = replace(lines[name], secret=name in SECRETS)
    return found


def settings_of(
    variables: Mapping[str, Given], tables: Table, *, default_data_dir: Path | None, problems: Problems
) -> Settings:
    """The settings; what is wrong is noted in problems and replaced by its default.

    `default_data_dir` is None when there is none for this user; then BACKUP_DATA must be given.
    """

    def value(key: str, rule: Rule[T], fallback: T) -> T:
        return problems.checked(variables[key], rule, fallback) if key in variables else fallback

    stores = stores_of_tables(tables.table("stores", known=None))
    numbers = {key.lower(): value(key, rule, default) for key, (rule, default) in NUMBERS.items()}
    settings = Settings(
        backup_root=value("BACKUP_ROOT", rules.store_root, NOWHERE),
        data_dir=value("BACKUP_DATA", rules.ssh_path, default_data_dir or NOWHERE),
        more_stores=stores,
        hosts=_hosts(variables, tables, stores, numbers["snapshot_interval_hours"], problems),
        keep_monthly_snapshots=value("KEEP_MONTHLY_SNAPSHOTS", rules.boolean_text, True),
        tar_format=cast("TarFormat", value("TAR_FORMAT", rules.one_of(("tar.gz", "tar.zst")), "tar.gz")),
        api_listen=value("API_LISTEN", rules.listen, ("127.0.0.1", 8085)),
        restore_folders=value("RESTORE_FOLDERS", rules.folders_text, ()),
        tz=value("TZ", rules.time_zone, "UTC"),
        nats_url=value("NATS_URL", rules.nats_url, ""),
        nats_nkey_file=value("NATS_NKEY_FILE", rules.secret_file, None),
        nats_replicas=int(value("NATS_REPLICAS", rules.one_of(("1", "3", "5")), "1")),
        postgres_dsn=value("POSTGRES_DSN", rules.postgres_dsn, ""),
        postgres_admin_dsn=value("POSTGRES_ADMIN_DSN", rules.postgres_dsn, ""),
        timing=_timing(tables.table("bus", known=BusTiming.__struct_fields__)),
    )
    _check_required(variables, default_data_dir, problems)
    settings = msgspec.structs.replace(settings, **numbers)
    _check_floor(settings, problems)
    check_roots(settings, problems)
    _check_restore_folders(settings, problems)
    return settings


def _check_restore_folders(settings: Settings, problems: Problems) -> None:
    """What is restored never mixes with what is kept."""
    for folder in map(Path, settings.restore_folders):
        for store, root in settings.stores.items():
            if folder.is_relative_to(root) or root.is_relative_to(folder):
                named = root_key(settings, store)
                problems.add(f"RESTORE_FOLDERS has {folder}, but must not contain {named} or lie in it.")


def _check_floor(settings: Settings, problems: Problems) -> None:
    """So few snapshots as these settings keep of some host must not be fewer than are never removed anyway."""
    slowest = max((host.snapshot_interval_hours for host in settings.hosts), default=settings.snapshot_interval_hours)
    kept = settings.hourly_retention_hours // slowest + settings.daily_retention_days + settings.retention_months
    if kept < FLOOR:
        problems.add(
            f"HOURLY_RETENTION_HOURS is {settings.hourly_retention_hours}, DAILY_RETENTION_DAYS "
            f"{settings.daily_retention_days} and RETENTION_MONTHS {settings.retention_months}: with a snapshot every "
            f"{slowest} h that keeps {kept} of a host, but must keep at least {FLOOR}."
        )


def _check_required(variables: Mapping[str, Given], default_data_dir: Path | None, problems: Problems) -> None:
    if "BACKUP_ROOT" not in variables:
        problems.add(
            ".env or environment: BACKUP_ROOT is not given, but must be the absolute path of the backup drive."
        )
    if "BACKUP_DATA" not in variables and default_data_dir is None:
        problems.add(
            ".env or environment: BACKUP_DATA is not given and this user has no home directory that ssh takes "
            "literally, so it must be the absolute path of a directory for keys and state."
        )


def _hosts(
    variables: Mapping[str, Given],
    tables: Table,
    stores: Sequence[StoreSettings],
    snapshot_interval_hours: int,
    problems: Problems,
) -> tuple[HostSettings, ...]:
    excludes = tables.table("excludes", known={"off", "own"})
    categories = {**DEFAULT_CATEGORIES, **_own_categories(excludes.table("own", known=None))}
    defaults = Defaults(
        snapshot_interval_hours=snapshot_interval_hours,
        categories=categories,
        categories_off=frozenset(excludes.values("off", rules.one_of(categories))),
        stores=(DEFAULT_STORE, *(store.name for store in stores)),
    )
    listed = hosts_of_list(variables.get("HOSTS"), problems)
    return hosts_of_tables(listed, tables.table("hosts", known=None), defaults)


def _own_categories(own: Table) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for key in own.content:
        if own.named(key, rules.category_name):
            if key in DEFAULT_CATEGORIES:
                own.wrong(key, f"under another name, because {key} is a category already")
            else:
                found[key] = own.values(key, rules.pattern)
    return found


def _timing(bus: Table) -> BusTiming:
    usual = BusTiming()
    timing = BusTiming(
        ack_wait_seconds=bus.value("ack_wait_seconds", rules.whole(1, 3_600), usual.ack_wait_seconds),
        heartbeat_seconds=bus.value("heartbeat_seconds", rules.seconds(0.05, 600), usual.heartbeat_seconds),
        offline_retry_seconds=bus.value("offline_retry_seconds", rules.whole(1, 86_400), usual.offline_retry_seconds),
        retry_seconds=bus.value("retry_seconds", rules.whole(1, 86_400), usual.retry_seconds),
        max_attempts=bus.value("max_attempts", rules.whole(1, 100), usual.max_attempts),
    )
    half_seconds = timing.ack_wait_seconds / 2
    if timing.heartbeat_seconds >= half_seconds:
        # Half the wait without a confirmed heartbeat ends a run, so one heartbeat at least must fit into it.
        key = "heartbeat_seconds" if "heartbeat_seconds" in bus.content else "ack_wait_seconds"
        bus.wrong(
            key,
            f"such that bus.heartbeat_seconds ({timing.heartbeat_seconds:g}) is less than half of "
            f"bus.ack_wait_seconds ({timing.ack_wait_seconds})",
        )
    return timing
