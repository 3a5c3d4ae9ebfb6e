"""What rsync prints while it works: files, progress and totals. Pure."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from shared.domain.errors import RunFailed


class Progress(msgspec.Struct, frozen=True):
    """How far a transfer is: bytes moved, percent of what is known so far, bytes a second, seconds left."""

    transferred_bytes: int = 0
    percent: int = 0
    bytes_per_second: int = 0
    eta_seconds: int | None = None


class Totals(msgspec.Struct, frozen=True):
    """What rsync counted, in files and bytes."""

    files: int
    directories: int
    symlinks: int
    specials: int
    transferred_files: int
    size_bytes: int
    transferred_bytes: int
    received_bytes: int


_PROGRESS: Final = re.compile(
    rb"^ +(?P<bytes>\d+) +(?P<percent>\d+)% +(?P<rate>[\d.]+)(?P<unit>[kMGT]?)B/s +(?P<h>\d+):(?P<m>\d\d):(?P<s>\d\d)"
)
_UNITS: Final = {b"": 1, b"k": 1024, b"M": 1024**2, b"G": 1024**3, b"T": 1024**4}


def parse_progress(line: bytes) -> Progress | None:
    """The progress that a line reports, or None when it reports none."""
    match = _PROGRESS.match(line)
    if match is None:
        return None
    rate = int(float(match["rate"]) * _UNITS[match["unit"]])
    seconds = int(match["h"]) * 3600 + int(match["m"]) * 60 + int(match["s"])
    # Behind "(xfr#" the time is what has passed, not what is left.
    eta_seconds = None if b"(xfr#" in line or rate == 0 else seconds
    return Progress(int(match["bytes"]), min(100, int(match["percent"])), rate, eta_seconds)


class OutputReader:
    """Takes rsync's output apart as it comes: lines about files go to `entries`, the rest is understood here."""

    def __init__(self, token: bytes) -> None:
        self._token = token
        self._rest = b""
        self._said: list[bytes] = []
        self.entries = 0
        self.progress = Progress()

    def take(self, chunk: bytes) -> bytes:
        """The lines about files in this piece, each without its token and with its line end."""
        lines = (self._rest + chunk).replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop()
        token, cut = self._token, len(self._token)
        about_files = [line[cut:] for line in lines if line.startswith(token)]
        if len(about_files) != len(lines):
            self._understand([line for line in lines if line and not line.startswith(token)])
        self.entries += len(about_files)
        about_files.append(b"")
        return b"\n".join(about_files)

    def totals(self) -> Totals:
        """The totals at the end. Raises RunFailed when there are none: then it did not end properly."""
        text = b"\n".join(self._said)
        kinds = _number_of_kinds(text)
        return Totals(
            files=kinds.get("reg", 0),
            directories=kinds.get("dir", 0),
            symlinks=kinds.get("link", 0),
            specials=kinds.get("special", 0) + kinds.get("dev", 0),
            transferred_files=_number_behind(b"Number of regular files transferred", text),
            size_bytes=_number_behind(b"Total file size", text),
            transferred_bytes=_number_behind(b"Total transferred file size", text),
            received_bytes=_number_behind(b"Total bytes received", text),
        )

    def _understand(self, lines: list[bytes]) -> None:
        # There is a line of progress for each file: only the newest one is news.
        found = (progress for line in reversed(lines) if (progress := parse_progress(line)) is not None)
        self.progress = next(found, self.progress)
        totals = [line for line in lines if line.startswith((b"Number of ", b"Total "))]
        # The totals come last: what the other side says before can only be overwritten by them.
        self._said = [*self._said, *totals][-32:]


def _number_of_kinds(text: bytes) -> dict[str, int]:
    found = re.findall(rb"^Number of files: \d+(?: \((.*)\))?$", text, re.MULTILINE)
    if not found:
        raise _no_totals()
    pairs = re.findall(rb"(\w+): (\d+)", found[-1])
    return {name.decode(): int(count) for name, count in pairs}


def _number_behind(words: bytes, text: bytes) -> int:
    found = re.findall(rb"^" + words + rb": (\d+)", text, re.MULTILINE)
    if not found:
        raise _no_totals()
    return int(found[-1])


def _no_totals() -> RunFailed:
    return RunFailed("rsync ended without its totals.", "Is rsync here too old?", code="no_totals")
