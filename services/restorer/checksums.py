"""The files of a tree against the checksums that were taken when they were backed up. Blocking, flat in memory."""

from __future__ import annotations

import errno
import io
import os
import re
import stat
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Final

import xxhash
import zstandard

from services.restorer.compare import Covered, Differences, open_to_read, read_full
from services.restorer.selection import Source
from services.restorer.watch import Watch
from shared.adapters.beneath import Descent, Opener
from shared.adapters.markers import FILES_FILE
from shared.domain.errors import RunFailed

_ESCAPED: Final = re.compile(rb"\\#([0-7]{3})")
_NOT_THERE: Final = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


def listed(source: Source) -> Iterator[tuple[bytes, bytes]]:
    """The files of the restore point that have a checksum: name and xxh128 in hex. Nothing where there is no list.

    Raises RunFailed when the list cannot be unpacked.
    """
    try:
        descriptor = os.open(FILES_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=source.descriptor)
    except FileNotFoundError:
        return
    with os.fdopen(descriptor, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return
        try:
            yield from _entries(file)
        except zstandard.ZstdError as error:
            raise RunFailed(
                f"The list of files in {source.name} is damaged, so nothing is proven by it: {error}.",
                "The drive may be failing: dmesg tells. Restore from another restore point, too.",
                code="list",
            ) from error


def _entries(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    with zstandard.ZstdDecompressor().stream_reader(file) as reader:
        for line in io.BufferedReader(reader, 1 << 18):
            name, found, rest = line.partition(b"//")
            kind, _, rest = rest.partition(b"|")
            checksum = rest.partition(b"|")[0]
            if found and kind == b"f" and len(checksum) == 32:
                yield _ESCAPED.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), name), checksum


def check(source: Source, tree: int, paths: Sequence[bytes], watch: Watch) -> tuple[Covered, Differences]:
    """Compare what lies in a tree below the paths with the list of the restore point.

    A file that is not in the tree is somebody else's to complain about.
    """
    covered, differences = Covered(), Differences()
    within = tuple(path + b"/" for path in paths)
    descent = Descent(tree, Opener(quiet=True))
    try:
        for name, checksum in listed(source):
            watch.go_on()
            if name not in paths and not name.startswith(within):
                continue
            digest = _digest(name, descent, watch)
            if digest is None:
                continue
            covered.add(name)
            if digest != checksum:
                differences.add(name, "not what was backed up, by its checksum")
    finally:
        descent.close()
    return covered, differences


def _digest(path: bytes, descent: Descent, watch: Watch) -> bytes | None:
    """The xxh128 of a file; None when it is not there or no regular file."""
    folder, _, name = path.rpartition(b"/")
    try:
        at = descent.open(os.fsdecode(folder) or ".")
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
        return None
    try:
        if not stat.S_ISREG(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
            return None
        descriptor = open_to_read(name, at)
    except FileNotFoundError:
        return None
    finally:
        os.close(at)
    try:
        summed = xxhash.xxh3_128()
        while piece := read_full(descriptor):
            watch.go_on()
            watch.bytes += len(piece)
            summed.update(piece)
        return summed.hexdigest().encode()
    finally:
        os.close(descriptor)
        watch.files += 1
