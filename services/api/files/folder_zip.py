"""A folder of a restore point as a zip, made piece by piece and read only once.

A zip knows files, folders and links, and names that are text. What it cannot hold is listed in a note inside it.
"""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Generator
from datetime import datetime
from typing import Final

from services.api.files.entries import moment_ns
from services.api.files.pulling import PIECE_BYTES, pieces_of_file
from services.api.problems import TooMuch
from shared.adapters.point_tree import Item, PointTree
from shared.domain.paths import shown

MOST_ENTRIES: Final = 100_000
"""A zip ends with a list of all its entries, which has to be remembered: about 100 MB for so many."""

MOST_NOTES: Final = 10_000
PIECES_AT_MOST: Final = 32
LONGEST_NAME_BYTES: Final = 60_000
NOTE: Final = "ABOUT-THIS-ZIP.txt"
LEVEL: Final = 1
_YEARS: Final = range(1980, 2108)


class _Sink:
    """Where the zip goes: it cannot be sought in, so that everything is said when it is known."""

    def __init__(self) -> None:
        self.waiting = bytearray()

    def write(self, piece: bytes) -> int:
        self.waiting += piece
        return len(piece)

    def flush(self) -> None:
        """Nothing waits here."""

    def taken(self) -> bytes:
        taken = bytes(self.waiting)
        self.waiting.clear()
        return taken


def refuse_too_many(tree: PointTree, path: bytes) -> None:
    """Count the entries. Blocking. Raises TooMuch."""
    for count, _ in enumerate(tree.walk(path), 1):
        if count > MOST_ENTRIES:
            raise TooMuch(f"This folder has more than {MOST_ENTRIES:,} entries.", "Take it as tar.gz, or a part of it.")


def zip_pieces(tree: PointTree, path: bytes, name: bytes) -> Generator[bytes, None, None]:
    """The zip. Blocking. Raises PathMissing and PathRefused when something cannot be read: then it has no end."""
    sink, notes = _Sink(), []
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as made:  # type: ignore[call-overload]  # write only
        for full, item in tree.walk(path):
            inside = name_in_zip(name + b"/" + full[len(path) :].lstrip(b"/"))
            if note := _why_not(item, inside):
                notes.append(f"left out, {note}: {shown(full)}\n")
                continue
            if not inside.encode().endswith(item.name):
                notes.append(f"renamed, because its name is no text: {inside} is {shown(full)}\n")
            info = _info(item, inside)
            if item.kind == "file":
                yield from _content(made, sink, info, tree.open_file(full))
            else:
                made.writestr(info, item.target)
            if len(sink.waiting) >= PIECE_BYTES:
                yield sink.taken()
        if notes:
            _write_note(made, name, notes[:MOST_NOTES])
    yield sink.taken()


def name_in_zip(path: bytes) -> str:
    """The path as text. One that is none has each byte that is none, and each %, as % and two digits, reversibly."""
    try:
        return path.decode()
    except UnicodeDecodeError:
        text = path.replace(b"%", b"%25").decode("utf-8", "surrogateescape")
        return "".join(f"%{ord(c) - 0xDC00:02X}" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in text)


def _why_not(item: Item, inside: str) -> str:
    if item.kind not in {"file", "folder", "link"}:
        return f"a {item.kind}"
    return "its path is too long" if len(inside.encode()) > LONGEST_NAME_BYTES else ""


def _info(item: Item, inside: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(inside + "/" * (item.kind == "folder"), _dos_time(item))
    mode = item.status.st_mode if item.status else 0
    info.external_attr = (mode & 0xFFFF) << 16 | (0x10 if item.kind == "folder" else 0)
    info.create_system = 3  # unix, whose modes these are
    if item.kind == "file":
        info.compress_type = zipfile.ZIP_DEFLATED
        info._compresslevel = LEVEL  # type: ignore[attr-defined]  # 3.13 made it public
    return info


def _content(
    made: zipfile.ZipFile, sink: _Sink, info: zipfile.ZipInfo, opened: tuple[int, os.stat_result]
) -> Generator[bytes, None, None]:
    descriptor, status = opened
    try:
        with made.open(info, "w", force_zip64=True) as entry:
            for number, piece in enumerate(pieces_of_file(descriptor, 0, status.st_size), 1):
                entry.write(piece)
                # Of a file of zeros next to nothing is left; whoever waits for it is not to wait for a whole piece.
                if len(sink.waiting) >= PIECE_BYTES or (sink.waiting and number % PIECES_AT_MOST == 0):
                    yield sink.taken()
    finally:
        os.close(descriptor)


def _dos_time(item: Item) -> tuple[int, int, int, int, int, int]:
    when: datetime | None = moment_ns(item.status.st_mtime_ns) if item.status else None
    if when is None or when.year not in _YEARS:
        return 1980, 1, 1, 0, 0, 0
    return when.year, when.month, when.day, when.hour, when.minute, when.second


def _write_note(made: zipfile.ZipFile, name: bytes, notes: list[str]) -> None:
    info = zipfile.ZipInfo(f"{name_in_zip(name)}/{NOTE}", (1980, 1, 1, 0, 0, 0))
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    made.writestr(info, "".join(notes))
