"""What the programs of an archive tell the worker that started them: one line of JSON at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

import msgspec

REPORTS_PER_SECOND: Final = 2


class Packing(msgspec.Struct, frozen=True, tag=True):
    """How far packing or reading back is: entries, bytes of the tar stream, bytes of the file."""

    members: int
    read_bytes: int
    written_bytes: int


class Packed(msgspec.Struct, frozen=True, tag=True):
    """A whole archive: entries, bytes of the tar stream, bytes of the file, and the file's SHA-256 in hex."""

    members: int
    source_bytes: int
    size_bytes: int
    sha256: str
    warnings: tuple[str, ...] = ()


class Surveyed(msgspec.Struct, frozen=True, tag=True):
    """What is in a tree. `digest` covers names and attributes of all entries, in order, and no content.

    The number of links and the time of the last change of attributes are not in it: another snapshot that shares a
    file changes both.
    """

    files: int = 0
    directories: int = 0
    symlinks: int = 0
    others: int = 0
    sockets: int = 0
    digest: str = ""

    @property
    def members(self) -> int:
        """How many members an archive of the tree has: tar leaves sockets out."""
        return self.files + self.directories + self.symlinks + self.others


class Trouble(msgspec.Struct, frozen=True, tag=True):
    """Why a program stopped. `where` is "target", "source" or "stream"; `number` is an errno, or 0."""

    where: str
    number: int
    message: str


Report = Packing | Packed | Surveyed | Trouble

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Report)


def tell(report: Report, descriptor: int = 1) -> None:
    """Print a report. Nobody who listens is no error: then nobody waits for it."""
    try:
        os.write(descriptor, _ENCODER.encode(report) + b"\n")
    except BrokenPipeError:
        return


class Lines:
    """Takes the output of a program as it comes and gives the reports in it. Raises msgspec.MsgspecError."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, chunk: bytes) -> Iterator[Report]:
        """The reports that are complete with this chunk."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return (_DECODER.decode(line) for line in lines)
