"""Which rsync is spoken here and over there, and what is too old. Pure."""

from __future__ import annotations

import re
from typing import Final

FLOOR: Final = (3, 2, 0)
"""The first that knows the checksum xxh128."""
PROTOCOL_FLOOR: Final = 31

_PROTOCOL: Final = re.compile(rb"^\(Client\) Protocol versions: remote=(\d{1,4}), negotiated=\d+\r?$", re.MULTILINE)
_SINCE: Final = {32: "3.4 or newer", 31: "3.1 or newer", 30: "3.0", 29: "2.6"}


def why_too_old_here(version: str) -> str:
    """Why the rsync of this machine will not do; empty when it does, or when it does not say what it is."""
    numbers = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    if numbers is None or tuple(int(number or 0) for number in numbers.groups()) >= FLOOR:
        return ""
    return f"rsync here is {version}, too old: install {FLOOR[0]}.{FLOOR[1]} or newer."


def protocol_of(output: bytes) -> int | None:
    """The other side's protocol by what `--debug=PROTO` printed, or None.

    Ours prints it before the host can say anything, so the first line is the one to believe.
    """
    found = _PROTOCOL.search(output)
    return int(found[1]) if found else None


def protocol_in_words(protocol: int) -> str:
    """What speaking this protocol says of an rsync."""
    since = _SINCE.get(protocol) or ("3.4 or newer" if protocol > max(_SINCE) else "older than 2.6")
    return f"speaks protocol {protocol}: rsync {since}"
