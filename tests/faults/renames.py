"""`python -m tests.faults.renames PLACE TOLD KIND`: move a file between folders, and look after each write of that.

Each line of TOLD is one state of the drive, as JSON: under which of the names the file is there, whole.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import msgspec

from shared.adapters.filesystem import open_directory, rename_new, sync_filesystem
from tests.faults.images import copy_image, make_image, make_memory, mounted
from tests.faults.recorder import Replay, recorded

OLD, NEW = "archives/file", "trash/file"
CONTENT: Final = b"archive" * 10_000


class Moved(msgspec.Struct, frozen=True):
    """A state of the drive, after so many of its writes and flushes."""

    position: int
    of: int
    names: list[str]


def _prepare(drive: Path) -> None:
    for name in (OLD, NEW):
        (drive / name).parent.mkdir()
    (drive / OLD).write_bytes(CONTENT)
    with open_directory(drive) as top:
        sync_filesystem(top)


def _move(drive: Path) -> None:
    with open_directory(drive / "archives") as source, open_directory(drive / "trash") as target:
        (drive / "archives/neighbour").write_bytes(b"The folder changes otherwise, too.")
        rename_new("file", "file", source_at=source, target_at=target)


def _names(drive: Path) -> list[str]:
    return [name for name in (OLD, NEW) if (drive / name).exists() and (drive / name).read_bytes() == CONTENT]


def main(words: list[str]) -> None:
    """Move it, and tell of every state."""
    place, kind = make_memory(Path(words[0])), words[2]
    image, rolling, drive = place / "image", place / "rolling", place / "mount"
    make_image(image, kind)
    with mounted(image, drive):
        _prepare(drive)
    copy_image(image, rolling)
    with recorded(image, place) as recorder:
        with mounted(recorder.mount, drive):
            begin = recorder.position
            _move(drive)
            end = recorder.position
        replay = Replay(rolling, recorder.records)
    with Path(words[1]).open("wb") as told:
        for position in range(begin, end + 1):
            replay.forward(position)
            copy_image(rolling, image)
            with mounted(image, drive):
                told.write(msgspec.json.encode(Moved(position - begin, end - begin, _names(drive))) + b"\n")
    replay.close()


if __name__ == "__main__":
    main(sys.argv[1:])
