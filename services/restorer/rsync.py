"""What rsync is asked when it restores, and what its end means. Pure: nothing is run here."""

from __future__ import annotations

import os
import re
from typing import Final

import msgspec

from shared.domain.errors import RunFailed
from shared.domain.host_rsync import exit_meant

IO_TIMEOUT_SECONDS: Final = 300
NO_ROOM: Final = "no_room"

_KEEP: Final = ("-aHXSR", "--numeric-ids", "--filter=+x user.**", "--filter=-x **")
_TO_THE_NANOSECOND: Final = "--modify-window=-1"
"""By whole seconds a folder that was made in the second of its original would pass for having its time already."""
_FULL: Final = ("No space left", "Disk quota")
_TRANSIENT: Final = frozenset({5, 10, 12, 14, 20, 22, 30, 35, 255})
_QUOTED: Final = re.compile(r'".*"')
_PROGRESS: Final = re.compile(
    rb"^ +(?P<bytes>\d+) +\d+% +(?P<rate>[\d.]+)(?P<unit>[kMGT]?)B/s +\d+:\d\d:\d\d(?: +\(xfr#(?P<files>\d+))?"
)
_UNITS: Final = {b"": 1, b"k": 1024, b"M": 1024**2, b"G": 1024**3, b"T": 1024**4}


class Push(msgspec.Struct, frozen=True):
    """What is to be moved: paths below `top`, each sent with its way from the `/./` in it on, to a destination.

    `extra` are options that only some restores have; `shell` is the way to a host.
    """

    sources: tuple[bytes, ...]
    destination: str
    shell: str | None = None
    extra: tuple[str, ...] = ()


def moving(push: Push, *, acls: bool, bandwidth_limit_kib: int | None) -> list[str]:
    """The command that moves it. Links are as the host had them, also where they are kept munged."""
    limit = [f"--bwlimit={bandwidth_limit_kib}"] if bandwidth_limit_kib and push.shell else []
    return ["rsync", *_common(push, acls=acls), *limit, "--info=progress2", "--no-human-readable", *_ends(push)]


def comparing(push: Push, *, acls: bool) -> list[str]:
    """The command that moves nothing and names, by content and attributes, what differs."""
    return ["rsync", *_common(push, acls=acls), "-n", "-c", "--out-format=%i %n", *_ends(push)]


def _common(push: Push, *, acls: bool) -> list[str]:
    # As the one option it is; rsync's own short form of it is refused by rrsync. It is the receiver that compares.
    exactly = f"-M{_TO_THE_NANOSECOND}" if push.shell else _TO_THE_NANOSECOND
    shell = ["-e", push.shell] if push.shell else []
    return [
        *_KEEP,
        *(["-A"] if acls else []),
        "--munge-links",
        f"--timeout={IO_TIMEOUT_SECONDS}",
        exactly,
        *shell,
        *push.extra,
    ]


def _ends(push: Push) -> list[str]:
    return ["--", *map(os.fsdecode, push.sources), push.destination]


class Moved(msgspec.Struct, frozen=True):
    """How far rsync says it is."""

    files: int
    bytes: int


def newest_progress(output: bytes) -> Moved | None:
    """The last progress in a piece of output, if there is one."""
    for line in reversed(output.replace(b"\r", b"\n").split(b"\n")):
        if match := _PROGRESS.match(line):
            return Moved(int(match["files"] or 0), int(match["bytes"]))
    return None


def judge(exit_code: int, said: str) -> None:
    """Raises RunFailed unless everything went well: a restore is whole or it failed."""
    if exit_code == 0:
        return
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if not line.startswith(("rsync error:", "rsync warning:"))] or lines
    if any(words in _QUOTED.sub("", said) for words in _FULL):
        raise RunFailed("There is no room left where it is restored to.", "Free some, or restore less.", code=NO_ROOM)
    first = f" It said: {errors[0][:400]}" if errors else ""
    exit_code = exit_meant(exit_code, errors)
    raise RunFailed(
        f"rsync ended with code {exit_code}.{first}",
        _HINTS.get(exit_code, ""),
        code=f"rsync_{exit_code}",
        transient=exit_code in _TRANSIENT,
    )


_HINTS: Final = {
    1: "Is rsync 3.2 or newer installed on both sides?",
    2: "Update the older rsync.",
    12: "Is rsync installed on the host, and does the line in its authorized_keys allow to write?",
    30: "The host fell silent. Is the network all right?",
    127: "Install rsync on the host.",
    255: "Is the network all right?",
}
