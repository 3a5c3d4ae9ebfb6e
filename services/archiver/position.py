"""Where in the tree packing is, for the one who reads ahead of it: a number in memory that two processes share."""

from __future__ import annotations

import mmap
import os
import struct
from typing import Final

_NUMBER: Final = struct.Struct("=Q")
_ALL: Final = 2**64 - 1


class Position:
    """How many members have passed the packer. One process writes it, another reads it; it only grows."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, _NUMBER.size)

    @staticmethod
    def new() -> int:
        """A descriptor of fresh shared memory that belongs to the caller."""
        descriptor = os.memfd_create("position")
        os.ftruncate(descriptor, _NUMBER.size)
        return descriptor

    def passed(self, members: int) -> None:
        """Note how many have passed."""
        _NUMBER.pack_into(self._memory, 0, members)

    def all_passed(self) -> None:
        """Note that nobody needs anything any more."""
        self.passed(_ALL)

    @property
    def members(self) -> int:
        """How many have passed."""
        return int(_NUMBER.unpack_from(self._memory, 0)[0])
