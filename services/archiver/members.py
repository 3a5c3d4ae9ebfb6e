"""Counts the members of a tar stream while it passes by. Pure; it keeps nothing of the stream but a broken block."""

from __future__ import annotations

from typing import Final

BLOCK_BYTES: Final = 512
LONGEST_EXTENSION_BYTES: Final = 256 * 1024 * 1024
"""The extension of one member: longer than the list of the holes of any real file."""

_END: Final = bytes(BLOCK_BYTES)
_PAX: Final = ord("x")
_NOT_MEMBERS: Final = frozenset(b"xgLKVMN")
_WITHOUT_CONTENT: Final = frozenset(b"123456")
"""Links, devices, directories and pipes: nothing follows their header, whatever size it has."""


class BrokenTar(Exception):
    """What was read is no tar stream, or only a part of one."""


class MemberCounter:
    """Takes a tar stream in pieces of any size and counts what is in it.

    Extension headers (pax and GNU) belong to the member behind them. Raises BrokenTar from `feed` and `finish`.
    """

    def __init__(self) -> None:
        self.members = 0
        self.bytes = 0
        self._skip = 0
        self._rest = b""
        self._extension: bytearray | None = None
        self._extension_left = 0
        self._size: int | None = None
        self._ended = False

    def feed(self, piece: bytes | memoryview) -> None:
        """Take the next piece of the stream."""
        start, end = 0, len(piece)
        self.bytes += end
        while start < end:
            if self._skip:
                step = min(self._skip, end - start)
                self._skip -= step
                start += step
            elif self._extension is not None:
                start += self._take_extension(piece[start : start + self._extension_left])
            else:
                header = self._rest + bytes(piece[start : start + BLOCK_BYTES - len(self._rest)])
                start += len(header) - len(self._rest)
                self._rest = b"" if len(header) == BLOCK_BYTES else header
                if not self._rest:
                    self._take_header(header)

    def finish(self) -> None:
        """Make sure that the stream ended where a tar stream ends."""
        if self._rest or self._skip or self._extension is not None or not self._ended:
            raise BrokenTar("the tar stream ends in the middle")

    def _take_header(self, header: bytes) -> None:
        if header == _END:
            self._ended = True
            return
        if self._ended or header[257:262] != b"ustar":
            raise BrokenTar("something that is no tar header stands where one is expected")
        kind = header[156]
        size = _number(header[124:136])
        if kind in _NOT_MEMBERS:
            self._begin_extension(kind, size)
            return
        if self._size is not None:
            size, self._size = self._size, None
        self.members += 1
        self._skip = 0 if kind in _WITHOUT_CONTENT else _padded(size)

    def _begin_extension(self, kind: int, size: int) -> None:
        if kind != _PAX or size == 0:
            self._skip = _padded(size)
            return
        if size > LONGEST_EXTENSION_BYTES:
            raise BrokenTar("the extension of a member is longer than any can be")
        self._extension = bytearray()
        self._extension_left = size

    def _take_extension(self, piece: bytes | memoryview) -> int:
        extension = self._extension if self._extension is not None else bytearray()
        extension += piece
        self._extension_left -= len(piece)
        if not self._extension_left:
            # Nearly no extension has a size: then it need not be taken apart.
            if b" size=" in extension:
                self._size = _size_in(bytes(extension))
            self._extension = None
            self._skip = -len(extension) % BLOCK_BYTES
        return len(piece)


def _padded(size: int) -> int:
    return size + -size % BLOCK_BYTES


def _number(field: bytes) -> int:
    try:
        if field[0] & 0x80:  # too large for the digits: in binary
            return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        return abs(int(field.strip(b" \0") or b"0", 8))
    except ValueError as error:
        raise BrokenTar("a tar header has a size that is no number") from error


def _size_in(extension: bytes) -> int | None:
    """The `size` among the records of a pax extension; values may hold anything, so they are walked one by one."""
    found = None
    start = 0
    try:
        while start < len(extension):
            space = extension.index(b" ", start)
            end = start + int(extension[start:space])
            key, _, value = extension[space + 1 : end - 1].partition(b"=")
            if not space < end <= len(extension):
                raise BrokenTar("a pax record has a length that cannot be")
            if key == b"size":
                found = int(value)
            start = end
        if found is not None and found < 0:
            raise BrokenTar("a member has a size below zero")
    except ValueError as error:
        raise BrokenTar("a pax extension cannot be read") from error
    return found
