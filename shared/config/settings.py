"""What an installation is told to do: frozen values that everything else trusts.

Paths are absolute, names are checked, numbers are in the units their names carry.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from shared.config.excludes import DEFAULT_EXCLUDES
from shared.domain.errors import StoreUnknown
from shared.domain.names import HostName, StoreName
from shared.domain.policy import Policy

Transport: TypeAlias = Literal["ssh", "local"]
"""How a host's files are reached: over SSH, or on this machine itself."""

TarFormat: TypeAlias = Literal["tar.gz", "tar.zst"]
"""What an archive is compressed with; also the end of its name."""

DEFAULT_STORE: Final = StoreName("main")
DEFAULT_PATHS: Final = ("/home",)


class HostSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One host: where it is, how it is reached, and what of it is backed up.

    `address` is a host name, an IPv4 or an IPv6 address without brackets; empty means the host's name.
    `paths` may contain rsync's "/./" marker once. `excludes` is final: categories and own patterns in one list.
    """

    name: HostName
    store: StoreName = DEFAULT_STORE
    transport: Transport = "ssh"
    address: str = ""
    user: str = "root"
    port: int = 22
    key: Path | None = None
    known_hosts: Path | None = None
    ssh_config: Path | None = None
    paths: tuple[str, ...] = DEFAULT_PATHS
    excludes: tuple[str, ...] = DEFAULT_EXCLUDES
    snapshot_interval_hours: int = 1
    bandwidth_limit_kib: int | None = None
    quota_gib: int | None = None

    @property
    def quota_bytes(self) -> int | None:
        """How much of the drive this host may take; None for no limit."""
        return None if self.quota_gib is None else self.quota_gib * 1024**3

    def __post_init__(self) -> None:
        if not self.address:
            msgspec.structs.force_setattr(self, "address", self.name)

    def key_path(self, settings: Settings) -> Path:
        """The private key to log in with."""
        return self.key or settings.data_dir / "keys" / self.name / "id_ed25519"

    def known_hosts_path(self, settings: Settings) -> Path:
        """The file that pins the host's public key."""
        return self.known_hosts or settings.data_dir / "keys" / self.name / "known_hosts"

    def restore_key_path(self, settings: Settings) -> Path:
        """The private key that may write on the host, once its owner has put it into authorized_keys there."""
        return settings.data_dir / "keys" / self.name / "restore_ed25519"

    def ssh_config_path(self) -> Path:
        """The configuration file of ssh; /dev/null, so that nobody's own configuration is read by accident."""
        return self.ssh_config or Path("/dev/null")


class StoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A store besides the one at BACKUP_ROOT, and where it is mounted on the machines that have it."""

    name: StoreName
    root: Path


class BusTiming(msgspec.Struct, frozen=True, kw_only=True):
    """How long the workers wait for what, in seconds, and how often a slot is tried."""

    ack_wait_seconds: int = 90
    heartbeat_seconds: float = 15.0
    offline_retry_seconds: int = 300
    retry_seconds: int = 60
    max_attempts: int = 3


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an installation is told. The URL and the DSNs may hold passwords and are never shown."""

    backup_root: Path
    data_dir: Path
    store: StoreName = DEFAULT_STORE
    more_stores: tuple[StoreSettings, ...] = ()
    hosts: tuple[HostSettings, ...] = ()
    snapshot_interval_hours: int = 1
    tar_interval_hours: int = 4
    tar_retention_days: int = 5
    tar_compression_level: int = 6
    tar_format: TarFormat = "tar.gz"
    hourly_retention_hours: int = 720
    daily_retention_days: int = 180
    keep_monthly_snapshots: bool = True
    snapshot_day_of_month: int = 1
    retention_months: int = 24
    trash_hours: int = 24
    tz: str = "UTC"
    api_listen: tuple[str, int] = ("127.0.0.1", 8085)
    restore_folders: tuple[str, ...] = ()
    nats_url: str = ""
    nats_nkey_file: Path | None = None
    nats_replicas: int = 1
    postgres_dsn: str = ""
    postgres_admin_dsn: str = ""
    timing: BusTiming = BusTiming()

    @property
    def stores(self) -> Mapping[StoreName, Path]:
        """Every store and where it is mounted, if it is: first the one at BACKUP_ROOT, then those of backup.toml."""
        return {self.store: self.backup_root} | {store.name: store.root for store in self.more_stores}

    def root_of(self, store: str) -> Path:
        """Where a store is mounted on a machine that has it. Raises StoreUnknown."""
        for name, root in self.stores.items():
            if name == store:
                return root
        known = ", ".join(self.stores)
        raise StoreUnknown(
            f"There is no store {store!r} in the settings; the stores are {known}.",
            f"Give it a table [stores.{store}] with its root in backup.toml.",
        )

    def store_of(self, host: str) -> StoreName:
        """The store that a host lives on; the one at BACKUP_ROOT for a host that is not in the settings."""
        known = self.host(host)
        return self.store if known is None else known.store

    def folder_of(self, host: str) -> Path:
        """What the drive of a host keeps of it. Raises StoreUnknown."""
        return self.root_of(self.store_of(host)) / host

    def local_address(self) -> str:
        """Where the dashboard listens on this machine, whether or not it also listens for others."""
        address = self.api_listen[0]
        return address if ipaddress.ip_address(address).is_loopback else "127.0.0.1"

    def local_url(self) -> str:
        """The dashboard's address for a browser on this machine."""
        address = self.local_address()
        return (
            f"http://[{address}]:{self.api_listen[1]}" if ":" in address else f"http://{address}:{self.api_listen[1]}"
        )

    def host(self, name: str) -> HostSettings | None:
        """The host of this name, if there is one."""
        return next((host for host in self.hosts if host.name == name), None)

    def restored_below(self) -> tuple[str, ...]:
        """The folders on this server that restores may go to; the first is the usual one."""
        return self.restore_folders or (str(self.data_dir / "restored"),)

    def policy(self) -> Policy:
        """What is kept for how long."""
        return Policy(
            hourly_hours=self.hourly_retention_hours,
            daily_days=self.daily_retention_days,
            monthly_months=self.retention_months,
            archive_days=self.tar_retention_days,
            golden_months=self.retention_months,
            time_zone=self.tz,
        )

    def described(self) -> dict[str, str]:
        """Everything that changes what this product does, as text, sorted by key and free of secrets.

        Keys are the names people write: those of .env, and `hosts.<name>.port` or `bus.retry_seconds` as in
        backup.toml. Lists are JSON. The names of HOSTS are sorted: their order changes nothing.
        """
        described = {key: _as_text(value) for key, value in self._described()}
        return dict(sorted(described.items()))

    def _described(self) -> Iterator[tuple[str, object]]:
        yield "BACKUP_ROOT", self.backup_root
        yield "BACKUP_DATA", self.data_dir
        yield "STORE", self.store
        for store in self.more_stores:
            yield f"stores.{store.name}.root", store.root
        yield "HOSTS", sorted(host.name for host in self.hosts)
        yield "TZ", self.tz
        for key in NUMBER_FIELDS:
            yield key.upper(), getattr(self, key)
        yield "API_LISTEN", f"{self.api_listen[0]}:{self.api_listen[1]}"
        yield "RESTORE_FOLDERS", self.restored_below()
        yield "TAR_FORMAT", self.tar_format
        yield "NATS_REPLICAS", self.nats_replicas
        yield "KEEP_MONTHLY_SNAPSHOTS", self.keep_monthly_snapshots
        for key in BusTiming.__struct_fields__:
            yield f"bus.{key}", getattr(self.timing, key)
        for host in self.hosts:
            for key, value in self._described_host(host):
                yield f"hosts.{host.name}.{key}", value

    def _described_host(self, host: HostSettings) -> Iterator[tuple[str, object]]:
        resolved: dict[str, object] = {
            "key": host.key_path(self),
            "known_hosts": host.known_hosts_path(self),
            "ssh_config": host.ssh_config_path(),
        }
        for key in HostSettings.__struct_fields__:
            if key != "name":
                yield key, resolved.get(key, getattr(host, key))

    def __repr__(self) -> str:
        return f"Settings(backup_root={str(self.backup_root)!r}, hosts={[host.name for host in self.hosts]!r})"

    def __rich_repr__(self) -> Iterator[tuple[str, object]]:  # type: ignore[override]  # msgspec's own shows secrets
        yield "backup_root", self.backup_root
        yield "hosts", [host.name for host in self.hosts]


NUMBER_FIELDS: Final = (
    "snapshot_interval_hours",
    "tar_interval_hours",
    "tar_retention_days",
    "tar_compression_level",
    "hourly_retention_hours",
    "daily_retention_days",
    "snapshot_day_of_month",
    "retention_months",
    "trash_hours",
)
"""The fields of Settings that are whole numbers; upper case they are the names in .env."""


def _as_text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
