"""The lines of the lists that a snapshot carries: of all its files, and of what changed since the one before. Pure.

A list of files is made of lines in byte order, one for each entry, from rsync's own output (no second walk):

    <name>//<kind>|<xxh128 or ->|<size>|<YYYY/MM/DD-HH:MM:SS in UTC>|<" -> target", " => first link" or nothing>

Names are bytes as rsync writes them: control characters as \\#ooo, the rest as it is; a directory ends in "/".
A name never contains "//", so the first "//" ends it.
"""

from __future__ import annotations

import base64
import re
from typing import Final

import msgspec

NO_CHECKSUM: Final = b"-"
LINKED: Final = b" => "
"""Before the first name of a file that has several."""


class Entry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One line of a list. `key` is the name with what ends it, by which lists are sorted."""

    key: bytes
    itemized: bytes
    checksum: bytes
    size: bytes
    mtime: bytes
    link: bytes

    @property
    def kind(self) -> bytes:
        """f, d or L."""
        return self.itemized[1:2] if len(self.itemized) > 1 else self.itemized

    def line(self) -> bytes:
        """The entry as a line of a stored list."""
        return b"%b%b|%b|%b|%b|%b\n" % (self.key, self.kind, self.checksum, self.size, self.mtime, self.link)


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of a change list. `path_base64` replaces `path` for names that are not UTF-8."""

    change: str
    kind: str
    size_bytes: int
    path: str = ""
    path_base64: str = ""
    xxh128: str = ""
    modified_at: str = ""

    @property
    def name(self) -> bytes:
        """The path, as the bytes it has on disk."""
        return base64.b64decode(self.path_base64) if self.path_base64 else self.path.encode()


def parse_line(line: bytes) -> Entry:
    """The entry of a line. Raises ValueError when it is none."""
    end = line.index(b"//") + 2
    if line[end : end + 1] == b"/":
        end += 1
    itemized, checksum, size, mtime, link = line[end:].split(b"|", 4)
    return Entry(line[:end], itemized, checksum.strip() or NO_CHECKSUM, size, mtime, link)


_ESCAPED: Final = re.compile(rb"\\#([0-7]{3})")


def real_name(key: bytes) -> bytes:
    """The name on disk of an entry's key, without the "/" of a directory."""
    name = key[:-2].removesuffix(b"/")
    if b"\\#" not in name:
        return name
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), name)
