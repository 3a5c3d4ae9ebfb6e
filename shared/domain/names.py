"""Names that become paths, subjects and keys: checked once at the edge, trusted inside."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from typing import Final, NewType

from shared.domain.errors import NameRefused

HostName = NewType("HostName", str)
StoreName = NewType("StoreName", str)
SnapshotName = NewType("SnapshotName", str)

RESERVED_HOST_NAMES: Final = frozenset(
    {
        "archives",
        "current",
        "daily",
        "golden",
        "hourly",
        "latest",
        "lost-found",
        "monthly",
        "snapshots",
        "trash",
    }
)
"""Words that mean something else in a path or a page of this product."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)
_SNAPSHOT_NAME = re.compile(r"(\d{4})-(\d\d)-(\d\d)_(\d\d)(\d\d)(\d\d)?", re.ASCII)
_ARCHIVE_NAME = re.compile(r"backup_(?P<host>.+)_(?P<snapshot>\d{4}-\d\d-\d\d_\d{4}(\d\d)?)\.tar\.(gz|zst)", re.ASCII)
_GOLDEN_NAME = re.compile(r"(\d{4})-(0[1-9]|1[0-2])", re.ASCII)
_ALLOWED = "Allowed: 1 to 63 of a-z, 0-9, _ and -, beginning with a letter or digit."


def parse_host_name(text: str) -> HostName:
    """The text as a host name. Raises NameRefused."""
    if not _NAME.fullmatch(text):
        raise NameRefused(f"{text!r} is not a host name.", _ALLOWED)
    if text in RESERVED_HOST_NAMES:
        raise NameRefused(
            f"{text!r} is a reserved name.", "Give the host another name; its address may stay what it is."
        )
    return HostName(text)


def parse_store_name(text: str) -> StoreName:
    """The text as the name of a store. Raises NameRefused."""
    if not _NAME.fullmatch(text):
        raise NameRefused(f"{text!r} is not a store name.", _ALLOWED)
    return StoreName(text)


def snapshot_name(slot: datetime) -> SnapshotName:
    """The directory name of the snapshot of a slot, in UTC; seconds only where a trigger asked between minutes."""
    utc = slot.astimezone(UTC)
    pattern = "%m-%d_%H%M%S" if utc.second else "%m-%d_%H%M"
    return SnapshotName(f"{utc.year:04}-{utc.strftime(pattern)}")  # %Y alone would write the year 999 with 3 digits


def parse_snapshot_name(text: str) -> datetime:
    """The slot that a snapshot directory is named after. Raises NameRefused."""
    match = _SNAPSHOT_NAME.fullmatch(text)
    try:
        if match:
            slot = datetime(*(int(part or 0) for part in match.groups()), tzinfo=UTC)  # type: ignore[misc, arg-type]  # the pattern fixes the number of parts
            if snapshot_name(slot) == text:
                return slot
    except ValueError:
        pass  # 2026-02-30 has the shape of a name and is not a day
    raise NameRefused(f"{text!r} is not the name of a snapshot.", "Allowed: YYYY-MM-DD_HHMM in UTC.")


def archive_name(host: HostName, snapshot: SnapshotName, suffix: str) -> str:
    """The file name of the archive of a snapshot; the suffix is `tar.gz` or `tar.zst`."""
    return f"backup_{host}_{snapshot}.{suffix}"


def parse_archive_name(text: str, host: HostName) -> SnapshotName:
    """The snapshot that an archive of this host is named after. Raises NameRefused."""
    match = _ARCHIVE_NAME.fullmatch(text)
    if not match or match["host"] != host:
        raise NameRefused(f"{text!r} is not the name of an archive of {host}.")
    parse_snapshot_name(match["snapshot"])
    return SnapshotName(match["snapshot"])


def golden_name(slot: datetime, zone: tzinfo) -> str:
    """The name of the golden copy that a snapshot of this slot belongs to: the month in the given zone."""
    local = slot.astimezone(zone)
    return f"{local.year:04}-{local.month:02}"


def parse_golden_name(text: str) -> tuple[int, int]:
    """The year and month that a golden copy is named after. Raises NameRefused."""
    match = _GOLDEN_NAME.fullmatch(text)
    if not match:
        raise NameRefused(f"{text!r} is not the name of a golden copy.", "Allowed: YYYY-MM.")
    return int(match[1]), int(match[2])


def host_stream(host: HostName) -> str:
    """The event stream of a host."""
    return f"host-{host}"


def store_stream(store: StoreName) -> str:
    """The event stream of a store."""
    return f"store-{store}"


SETTINGS_STREAM: Final = "settings"
REFUSED_STREAM: Final = "refused"
HOST_STREAM_PREFIX: Final = "host-"
