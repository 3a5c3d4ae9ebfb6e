"""Reading the lists that a restore point carries, line by line and flat in memory.

They are files of our own, but they lie on a drive: what is broken is said, and no line is ever longer than it can be.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
import zstandard

from shared.adapters.markers import CHANGES_FILE, FILES_FILE
from shared.domain.file_list import Change

BLOCK_BYTES: Final = 1 << 20
LONGEST_LINE_BYTES: Final = 1 << 20
WINDOW_BYTES: Final = 1 << 27
"""The most memory that a list may ask for to be read."""


class ListMissing(Exception):
    """The restore point has no such list, or it cannot be read."""


def blocks_of_files(tree: int) -> Iterator[bytes]:
    """The list of all files, in blocks of whole lines. Raises ListMissing."""
    return _blocks(FILES_FILE, tree)


def lines_of_files(tree: int) -> Iterator[bytes]:
    """The list of all files, in lines without line ends. Raises ListMissing."""
    for block in _blocks(FILES_FILE, tree):
        yield from block[:-1].split(b"\n")


def has_list_of_files(tree: int) -> bool:
    """Whether the restore point has one with something in it."""
    try:
        return os.stat(FILES_FILE, dir_fd=tree, follow_symlinks=False).st_size > 0
    except OSError:
        return False


def changes(tree: int) -> Iterator[Change]:
    """What changed since the snapshot before. Raises ListMissing."""
    decoder = msgspec.json.Decoder(Change)
    for block in _blocks(CHANGES_FILE, tree):
        try:
            yield from decoder.decode_lines(block)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ListMissing(f"{CHANGES_FILE} cannot be understood: {error}") from error


def _blocks(name: str, tree: int) -> Iterator[bytes]:
    rest = b""
    try:
        with _opened(name, tree) as reader:
            while block := reader.read(BLOCK_BYTES):
                whole, end, rest_of_it = block.rpartition(b"\n")
                if end:
                    yield rest + whole + end
                    rest = rest_of_it
                elif len(rest := rest + block) > LONGEST_LINE_BYTES:
                    raise ListMissing(f"{name} has a line that is too long")
    except (OSError, zstandard.ZstdError) as error:
        raise ListMissing(f"{name} cannot be read: {error}") from error
    if rest:
        raise ListMissing(f"{name} ends in the middle of a line")


@contextmanager
def _opened(name: str, tree: int) -> Iterator[io.BufferedReader]:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    unpacker = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES)
    with os.fdopen(os.open(name, flags, dir_fd=tree), "rb") as file, unpacker.stream_reader(file) as reader:
        yield io.BufferedReader(reader, BLOCK_BYTES)
