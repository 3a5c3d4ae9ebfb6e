"""Writes a snapshot's list of files and its list of changes: sorted by `sort`, compared line by line."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

import zstandard

from services.snapshotter import file_list
from services.snapshotter.file_list import Tally
from shared.adapters import process
from shared.adapters.markers import CHANGES_FILE, FILES_FILE
from shared.domain.errors import RunFailed

SORT_MEMORY: Final = "64M"
SORT_TIMEOUT_SECONDS: Final = 3600.0
LEVEL: Final = 3


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison found. `changes_digest` is the SHA-256 of the change list before compression."""

    tally: Tally
    changes_digest: str


async def sort_list(raw: Path, sorted_list: Path) -> None:
    """Sort a list by its bytes, in bounded memory. Raises RunFailed; OSError when the drive is full."""
    argv = ["sort", "-S", SORT_MEMORY, "-T", str(raw.parent), "-o", str(sorted_list), "--", str(raw)]
    done = await process.run(argv, timeout_seconds=SORT_TIMEOUT_SECONDS, env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"})
    if done.returncode != 0:
        if "No space left" in done.said or "Disk quota" in done.said:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise RunFailed(f"The list of files could not be sorted: {done.said}.", code="list")


def write_lists(tree: Path, base: Path | None, sorted_list: Path) -> Compared:
    """Write both lists into a tree. `base` is the snapshot before. Blocking; flat in memory.

    Raises RunFailed when the list of the snapshot before is damaged.
    """
    try:
        return _write_lists(tree, base, sorted_list)
    except (zstandard.ZstdError, ValueError) as error:
        if base is None:
            raise
        raise RunFailed(
            f"The list of files {base / FILES_FILE} is damaged: {error}.",
            "Check the drive: dmesg tells why. If it is sound, rename that list; the next snapshot does without.",
            code="list",
        ) from error


def _write_lists(tree: Path, base: Path | None, sorted_list: Path) -> Compared:
    linked: dict[bytes, bytes] = {}
    if names := file_list.names_linked_to(_lines(sorted_list)):
        # Of a file that got more names rsync tells the checksum once, or, where nothing was moved, the base has it.
        for lines in (_list_of(base), _lines(sorted_list)):
            linked |= file_list.checksums_of(names, lines)
    tally = Tally()
    digest = hashlib.sha256()
    with ExitStack() as stack:
        files = stack.enter_context(_compressed(tree / FILES_FILE, stack))
        changes = stack.enter_context(_compressed(tree / CHANGES_FILE, stack))
        for line, change in file_list.compare(_list_of(base), _lines(sorted_list), tally, linked):
            files.write(line)
            if change:
                changes.write(change)
                digest.update(change)
    return Compared(tally, digest.hexdigest())


def _list_of(base: Path | None) -> Iterator[bytes]:
    return read_list(base / FILES_FILE) if base is not None and (base / FILES_FILE).exists() else iter(())


def read_list(path: Path) -> Iterator[bytes]:
    """The lines of a stored list, without line ends."""
    with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as reader:
        for line in io.BufferedReader(reader, 1 << 18):
            yield line[:-1]


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            yield line[:-1]


def _compressed(path: Path, stack: ExitStack) -> BinaryIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    file = stack.enter_context(os.fdopen(descriptor, "wb"))
    writer = zstandard.ZstdCompressor(level=LEVEL).stream_writer(file, closefd=False)
    return stack.enter_context(io.BufferedWriter(cast(io.RawIOBase, writer), 1 << 18))
