"""Which bytes of a file are wanted, and the headers that say which are sent. Pure (RFC 9110, RFC 6266, RFC 8187)."""

from __future__ import annotations

import os
import re
from typing import Final
from urllib.parse import quote

_RANGE: Final = re.compile(r"bytes=(\d{0,20})-(\d{0,20})", re.ASCII)


def etag_of(status: os.stat_result) -> str:
    """What names this content: a file of a restore point never changes while its inode, time and size stay."""
    return f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"'


def wanted_range(header: str, size: int) -> tuple[int, int] | None:
    """The first byte and the one behind the last. None: all of it. Raises ValueError when there are no such bytes.

    Several ranges at once, or what cannot be understood, may be answered with the whole.
    """
    found = _RANGE.fullmatch(header.strip())
    if not found or not (found[1] or found[2]):
        return None
    if not found[1]:
        start, end = max(0, size - int(found[2])), size
    else:
        start, end = int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
        if found[2] and int(found[2]) < int(found[1]):
            return None
    if start >= end:
        raise ValueError(header)
    return start, end


def attachment(name: bytes, suffix: str = "") -> str:
    """The header by which a browser stores what it gets under a name."""
    text = "".join(c if c.isprintable() and c not in '/\\"' else "_" for c in name.decode("utf-8", "replace")) + suffix
    plain = "".join(c if c.isascii() else "_" for c in text)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(text, safe='')}"
