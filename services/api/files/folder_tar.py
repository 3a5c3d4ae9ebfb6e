"""A folder of a restore point as tar.gz: GNU tar reads it, and it is compressed fast while it is sent."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from isal import isal_zlib

from services.api.files.drive import PointRef
from shared.adapters import process
from shared.adapters.disk_work import DiskWork
from shared.adapters.point_tree import RECORDS, PathRefused, PointTree, hold_point, reading_host
from shared.adapters.process import Running, dying_with_parent
from shared.domain.errors import RunFailed
from shared.domain.paths import parent_of

MOUNTS: Final = Path("/proc/self/mountinfo")
ENVIRONMENT: Final = {"LC_ALL": "C", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
OPTIONS: Final = (
    "--create",
    "--file=-",
    "--blocking-factor=128",
    # Names come from a file in memory, each ended by a zero byte; none can be an option or an escape.
    "--null",
    "--verbatim-files-from",
    "--no-unquote",
    "--format=posix",
    "--pax-option=delete=atime,delete=ctime",
    "--numeric-owner",
    "--xattrs",
    "--xattrs-include=user.*",
    "--xattrs-include=system.posix_acl_*",
    "--sparse",
    "--sparse-version=0.0",
    "--one-file-system",
    "--sort=name",
    "--quoting-style=escape",
)
CHANGED: Final = 1
"""tar's exit code when the times of attributes moved: another snapshot shares the files. Their content is the same."""

BATCH_BYTES: Final = 1 << 20
SILENT_SECONDS: Final = 300.0
LEVEL: Final = 1
GZIP: Final = 31
"""What zlib calls the format of gzip with the largest window."""


@dataclass(frozen=True, slots=True)
class OpenFolder:
    """A folder of a restore point, held: `parent` is what it lies in, and `names` is it, or at the top all it holds."""

    held: int
    parent: int
    names: tuple[bytes, ...]

    @classmethod
    def of(cls, point: PointRef, path: bytes) -> OpenFolder:
        """Open it. Blocking. Raises PathMissing, PathRefused, and what holding a restore point raises."""
        with reading_host(point.where) as host:
            held = hold_point(host, point.kind, point.name)
        try:
            tree = PointTree(held)
            above, name = parent_of(path)
            with tree.folder(path) as folder:  # that it is one
                names = (name,) if name else _top_names(folder)
            with tree.folder(above) as parent:
                return cls(held, os.dup(parent), names)
        except BaseException:
            os.close(held)
            raise

    def close(self) -> None:
        """Let go."""
        os.close(self.parent)
        os.close(self.held)


def refuse_mounts(tree: PointTree) -> None:
    """tar knows other file systems, but not a folder of the same one that is mounted here once more.

    Raises PathRefused.
    """
    inside = f"{Path(f'/proc/self/fd/{tree.top}').readlink()}/"
    for line in MOUNTS.read_text(errors="surrogateescape").splitlines():
        where = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), line.split(" ")[4])
        if where.startswith(inside):
            raise PathRefused("Something else is mounted inside this restore point.", "Unmount it, or take a zip.")


def _top_names(folder: int) -> tuple[bytes, ...]:
    return tuple(sorted(set(map(os.fsencode, os.listdir(folder))) - RECORDS))


async def tar_pieces(folder: OpenFolder, work: DiskWork) -> AsyncGenerator[bytes, None]:
    """The tar.gz. Raises RunFailed when tar could not read everything: then what was sent has no end."""
    packer = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, GZIP)
    async with await _start(folder) as tar:
        try:
            async with aclosing(_batches(tar)) as batches:
                async for batch in batches:
                    if piece := await work.do(packer.compress, batch):
                        yield piece
            code = await tar.wait()
        finally:
            await _drained(tar)
    if code not in {0, CHANGED}:
        raise RunFailed(f"tar ended with code {code}: {bytes(tar.stderr)[-500:]!r}", code="tar")
    yield packer.flush()


async def _drained(tar: Running) -> None:
    """End it, and take what it had said by then: only a pipe that was read to its end is closed."""
    await tar.end(grace_seconds=1.0)
    async for _ in tar.chunks():
        pass


async def _start(folder: OpenFolder) -> Running:
    names = os.memfd_create("names")
    try:
        os.write(names, b"".join(name + b"\0" for name in folder.names))
        os.lseek(names, 0, os.SEEK_SET)
        where = f"--directory=/proc/self/fd/{folder.parent}"
        argv = dying_with_parent(["tar", *OPTIONS, where, "--files-from=-"])
        # It inherits what holds the restore point, so that an orphan still does.
        return await process.start(argv, env=ENVIRONMENT, stdin=names, pass_fds=(folder.parent, folder.held))
    finally:
        os.close(names)


async def _batches(tar: Running) -> AsyncGenerator[bytes, None]:
    batch = bytearray()
    chunks = tar.chunks()
    while True:
        try:
            async with asyncio.timeout(SILENT_SECONDS):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            chunk = b""
        batch += chunk
        if batch and (not chunk or len(batch) >= BATCH_BYTES):
            yield bytes(batch)
            batch.clear()
        if not chunk:
            return
