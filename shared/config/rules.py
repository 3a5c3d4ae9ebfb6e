"""What each kind of value may be. Every rule takes a value as given and returns the one that is used.

A rule raises Unallowed with words that end the sentence "… but must be …".
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Collection
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from shared.config.problems import Rule, Unallowed
from shared.domain.errors import NameRefused
from shared.domain.names import (
    RESERVED_HOST_NAMES,
    HostName,
    StoreName,
    parse_host_name,
    parse_store_name,
)

PATH_BYTES_MAX: Final = 4095
PATTERN_CHARACTERS_MAX: Final = 1024
NAME_ALLOWED: Final = "1 to 63 of a-z, 0-9, _ and -, beginning with a letter or digit"
ADDRESS_ALLOWED: Final = "a host name, an IPv4 address or an IPv6 address, without a zone and nothing else"

_WHOLE = re.compile(r"[0-9]{1,18}", re.ASCII)
_LABELS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*", re.ASCII)
_USER = re.compile(r"[a-z_][a-z0-9_.-]{0,31}", re.ASCII)
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*", re.ASCII)
_NO_ZONES = ("localtime", "posixrules", "posix/", "right/")  # files beside the zones, other on every machine
_NATS_URLS = re.compile(r"(nats|tls|ws|wss)://[^\s,]+(,(nats|tls|ws|wss)://[^\s,]+)*")
_POSTGRES_DSN = re.compile(r"postgres(ql)?://\S+")
_SPECIAL_TO_SSH = frozenset(" \"'\\%$`")
_BOOLEANS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Endpoint(NamedTuple):
    """Where a host is reached; what was not said is None."""

    address: str
    user: str | None = None
    port: int | None = None


def whole(low: int, high: int, reason: str = "") -> Rule[int]:
    """A whole number between two bounds, both allowed."""

    def rule(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise Unallowed(f"a whole number from {low} to {high}{reason}")

    return rule


def whole_text(low: int, high: int, reason: str = "") -> Rule[int]:
    """A whole number between two bounds, written in decimal digits."""
    inside = whole(low, high, reason)

    def rule(value: str) -> int:
        return inside(int(value) if _WHOLE.fullmatch(value) else None)

    return rule


def seconds(low: float, high: float) -> Rule[float]:
    """A number of seconds between two bounds, with or without a fraction."""

    def rule(value: object) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
            return float(value)
        raise Unallowed(f"a number from {low:g} to {high:g}")

    return rule


def boolean_text(value: str) -> bool:
    """True or false, in one of the ways people write it."""
    try:
        return _BOOLEANS[value.lower()]
    except KeyError:
        raise Unallowed("one of true, false, yes, no, 1, 0") from None


def one_of(names: Collection[str]) -> Rule[str]:
    """One of the names."""

    def rule(value: object) -> str:
        if isinstance(value, str) and value in names:
            return value
        raise Unallowed(f"one of {', '.join(names)}")

    return rule


def host_name(value: str) -> HostName:
    """The name of a host."""
    try:
        return parse_host_name(value)
    except NameRefused:
        if value in RESERVED_HOST_NAMES:
            reserved = ", ".join(sorted(RESERVED_HOST_NAMES))
            raise Unallowed(f"another name, because these are reserved: {reserved}") from None
        raise Unallowed(f"a host name of {NAME_ALLOWED}") from None


def store_name(value: object) -> StoreName:
    """The name of a store."""
    try:
        return parse_store_name(value if isinstance(value, str) else "")
    except NameRefused:
        raise Unallowed(f"a store name of {NAME_ALLOWED}") from None


def user(value: object) -> str:
    """The name of a user on a host."""
    if isinstance(value, str) and _USER.fullmatch(value):
        return value
    raise Unallowed("a user name of 1 to 32 of a-z, 0-9, _, . and -, beginning with a letter or _")


def address(value: object) -> str:
    """A host name or an IP address; an IPv6 address may stand in brackets, which are taken off."""
    text = value if isinstance(value, str) else ""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if _is_ipv6(bare) or _is_name_or_ipv4(text):
        return bare
    raise Unallowed(ADDRESS_ALLOWED)


def endpoint(text: str) -> Endpoint:
    """`[user@]address[:port]`; with a port, an IPv6 address stands in brackets."""
    login, at, place = text.rpartition("@")
    port: int | None = None
    bracket = place.rfind("]")
    if (colon := place.rfind(":")) > bracket and not _is_ipv6(place):
        port = whole_text(1, 65535, " after the colon")(place[colon + 1 :])
        place = place[:colon]
    return Endpoint(address(place), user(login) if at else None, port)


def _is_ipv6(text: str) -> bool:
    # A zone (fe80::1%eth0) may be any text at all for the ipaddress module.
    try:
        return "%" not in text and bool(ipaddress.IPv6Address(text))
    except ValueError:
        return False


def _is_name_or_ipv4(text: str) -> bool:
    if not _LABELS.fullmatch(text) or len(text) > 253:
        return False
    if "." not in text or not text.rpartition(".")[2].isdigit():
        return True
    try:  # resolvers take a name that ends with a number for an address, and so a typo for another host
        return bool(ipaddress.IPv4Address(text))
    except ValueError:
        return False


def absolute_path(value: object) -> Path:
    """An absolute path without `..`, line breaks and other control characters."""
    return Path("/" + _path_text(value).lstrip("/"))


def store_root(value: object) -> Path:
    """The directory of a store."""
    path = absolute_path(value)
    if path == Path("/"):
        raise Unallowed("the directory of a backup drive, not the root of this machine")
    return path


def folders_text(value: str) -> tuple[str, ...]:
    """Absolute paths of directories, separated by commas."""
    return tuple(str(store_root(entry.strip(" \t"))) for entry in value.split(","))


def ssh_path(value: object) -> Path:
    """A path that ssh takes literally: it would expand %, $ and split at spaces and quotes."""
    path = absolute_path(value)
    if _SPECIAL_TO_SSH.intersection(str(path)):
        raise Unallowed("an absolute path without spaces, quotes, backslashes, %, $ and `, which ssh would change")
    return path


def source_path(value: object) -> str:
    """A path on a host, as it is given to rsync."""
    text = _path_text(value)
    if text.split("/").count(".") > 1:
        raise Unallowed("an absolute path with the /./ marker at most once")
    return text


def _path_text(value: object) -> str:
    text = value if isinstance(value, str) else ""
    well_formed = text.startswith("/") and ".." not in text.split("/") and not _has_controls(text)
    if not well_formed or len(text.encode()) > PATH_BYTES_MAX:
        raise Unallowed("an absolute path, beginning with /, without .. and control characters")
    return text


def _has_controls(text: str) -> bool:
    return any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in text)


def pattern(value: object) -> str:
    """A pattern for rsync's --exclude. `!`, `+ x` and `- x` are not: rsync would take them for rules."""
    text = value if isinstance(value, str) else ""
    is_rule = text == "!" or text.startswith(("+ ", "- "))
    if not text or len(text) > PATTERN_CHARACTERS_MAX or is_rule or _has_controls(text):
        raise Unallowed(
            f"an rsync pattern of 1 to {PATTERN_CHARACTERS_MAX} characters without line breaks and control "
            "characters, not '!' and not beginning with '+ ' or '- '"
        )
    return text


def category_name(value: str) -> str:
    """The name of a category of excludes, of the same shape as the names of hosts and stores."""
    try:
        return parse_store_name(value)
    except NameRefused:
        raise Unallowed(f"a category name of {NAME_ALLOWED}") from None


def time_zone(value: str) -> str:
    """A time zone that this machine knows."""
    try:
        if _ZONE.fullmatch(value) and len(value) <= 64 and not value.startswith(_NO_ZONES):
            return ZoneInfo(value).key
    except (KeyError, ValueError, OSError):
        pass  # unknown, not a zone file, or a directory of zones such as "Europe"
    raise Unallowed("the IANA name of a time zone that this machine knows, such as UTC or Europe/Berlin")


def listen(text: str) -> tuple[str, int]:
    """Where the dashboard listens, with a port: another address than this machine's own counts once there are users."""
    place, colon, port = text.rpartition(":")
    bare = place[1:-1] if place.startswith("[") and place.endswith("]") else place
    try:
        address = str(ipaddress.ip_address(bare))
    except ValueError:
        address = ""
    if address and colon and (bare == place) != (":" in bare):  # brackets around IPv6, and only there
        return address, whole_text(1, 65535, " after the colon")(port)
    raise Unallowed("an address of this machine and a port, such as 127.0.0.1:8085, 0.0.0.0:8085 or [::1]:8085")


def nats_url(value: str) -> str:
    """One or more addresses of NATS servers; empty when it is not given."""
    if not value or _NATS_URLS.fullmatch(value):
        return value
    raise Unallowed("empty or URLs beginning with nats://, tls://, ws:// or wss://, separated by commas")


def secret_file(value: str) -> Path | None:
    """The absolute path of a file that keeps a secret; None when it is empty."""
    return absolute_path(value) if value else None


def postgres_dsn(value: str) -> str:
    """The address of the event log; empty when it is not given."""
    if not value or _POSTGRES_DSN.fullmatch(value):
        return value
    raise Unallowed("empty or a URL beginning with postgresql:// or postgres://")
