"""`python -m tests.faults.filling PLACE TOLD WHAT CASE...`: run protocols on drives that have too little room.

WHAT is `bytes` or `inodes`; a case is the name of a protocol, a colon, and how many eighths it finds of what it needs.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from tests.faults.images import EXT4, make_memory
from tests.faults.processes import DONE, REFUSED
from tests.faults.stand import Stand, make_base

MAKERS: Final = ("take a snapshot", "make an archive", "make a golden copy")
EIGHTHS: Final = 8
FEW_INODES: Final = ("-N", "600")
_BALLAST: Final = "ballast"
BLOCK_BYTES: Final = 4096
SLACK_BYTES: Final = 4 * BLOCK_BYTES
"""A directory that has grown does not shrink."""


class Filled(msgspec.Struct, frozen=True):
    """One run with too little room: how much, how it ended, and what was wrong then."""

    protocol: str
    what: str
    free: int
    needed: int
    outcome: str
    wrong: list[str]


def free_bytes(drive: Path) -> int:
    """How much of a drive is free."""
    found = os.statvfs(drive)
    return found.f_bavail * found.f_frsize


def free_inodes(drive: Path) -> int:
    """How many more files a drive takes."""
    return os.statvfs(drive).f_favail


def leave_bytes(drive: Path, wanted: int) -> None:
    """Fill a drive but for so many bytes."""
    descriptor, size = os.open(drive / _BALLAST, os.O_RDWR | os.O_CREAT, 0o600), 0
    try:
        # The map of such a file takes room, too, so the rest is filled by what is still free.
        while (more := (free_bytes(drive) - wanted) // BLOCK_BYTES * BLOCK_BYTES) > 0:
            os.posix_fallocate(descriptor, size, more)
            size += more
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    finally:
        os.close(descriptor)


def leave_inodes(drive: Path, wanted: int) -> None:
    """Make files until so few more can be made."""
    (drive / _BALLAST).mkdir()
    for number in range(free_inodes(drive) - wanted):
        (drive / _BALLAST / str(number)).touch()


def make_room(drive: Path) -> None:
    """Take away what filled it."""
    ballast = drive / _BALLAST
    if ballast.is_dir():
        for path in ballast.iterdir():
            path.unlink()
        ballast.rmdir()
    else:
        ballast.unlink()


@dataclass(frozen=True, slots=True)
class Room:
    """What there may be too little of."""

    free: Callable[[Path], int]
    leave: Callable[[Path, int], None]
    slack: int


ROOMS: Final = {"bytes": Room(free_bytes, leave_bytes, SLACK_BYTES), "inodes": Room(free_inodes, leave_inodes, 0)}


def needed_by(stand: Stand, room: Room) -> int:
    """What a run takes for good."""
    with stand.copy() as drive:
        before = room.free(drive)
        assert stand.begun().outcome() == DONE, stand.what_was_said()
        os.sync()
        return before - room.free(drive)


def fill(stand: Stand, what: str, needed: int, eighths: int) -> Filled:
    """Run a protocol with so much room, and once more with enough of it."""
    room = ROOMS[what]
    with stand.copy() as drive:
        room.leave(drive, needed * eighths // EIGHTHS)
        os.sync()
        free = room.free(drive)
        outcome = stand.begun().outcome()
        wrong = [] if outcome in {DONE, REFUSED} else [f"it was {outcome}: {stand.what_was_said()}"]
        wrong += _not_given_back(stand, outcome, free, room)
        wrong += stand.judged(outcome, mend=lambda: make_room(drive))
    return Filled(stand.name, what, free, needed, outcome, wrong)


def _not_given_back(stand: Stand, outcome: str, free: int, room: Room) -> Iterator[str]:
    os.sync()
    lacking = free - room.free(stand.drive)
    if outcome == REFUSED and lacking > room.slack:
        yield f"what it wrote before it was refused still takes {lacking}"


def main(words: list[str]) -> None:
    """Try each case."""
    place, what = make_memory(Path(words[0])), words[2]
    make_base(place / "base", EXT4, *(FEW_INODES if what == "inodes" else ()))
    stands: dict[str, tuple[Stand, int]] = {}
    with Path(words[1]).open("wb") as told:
        for case in words[3:]:
            name, _, eighths = case.partition(":")
            if name not in stands:
                stand = Stand(place / str(len(stands)), name, EXT4)
                stand.prepare(place / "base")
                stands[name] = stand, needed_by(stand, ROOMS[what])
            stand, needed = stands[name]
            told.write(msgspec.json.encode(fill(stand, what, needed, int(eighths))) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
