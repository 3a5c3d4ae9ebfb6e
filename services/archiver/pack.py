"""Makes one archive of a snapshot, and reads it back.

    readahead ── asks the drive for what tar will want next, and counts what there is
    snapshot ─► tar ─ pipe ─► packer ─► file          afterwards: file ─► readback

Each is a process of its own: together they use two processors and more, and end when they are told to, whatever they
wait for. What tar costs in memory: it remembers each file that has other names until it has met them all, and in a
tree of hard links that is every file, measured at 100 bytes each. Everything else is flat: 45 MB for tar.gz, 100 MB
for tar.zst at level 6.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack, ExitStack
from typing import TypeVar

from services.archiver import judgement, programs, tar
from services.archiver.compression import Compression
from services.archiver.position import Position
from services.archiver.programs import Hear, last_report
from services.archiver.reports import Packed, Packing, Report, Surveyed
from services.archiver.tar import Complaints
from shared.adapters import process
from shared.adapters.process import Running
from shared.adapters.threads import in_thread
from shared.domain.errors import RunFailed

__all__ = ["Compression", "Packed", "Packing", "Surveyed", "count_entries", "pack", "read_back"]

_A = TypeVar("_A")
_B = TypeVar("_B")


async def pack(
    tree: int, target: int, *, compression: Compression, report: Hear, pass_fds: Sequence[int] = ()
) -> Packed:
    """Write the archive of a snapshot to an empty file, down to the drive. Raises RunFailed.

    `tree` is a descriptor of the snapshot's directory, `target` one that is open for writing, and `pass_fds` are
    descriptors that all processes hold besides, such as a lock. Cancelled, it ends them all first.
    """
    names = await in_thread(tar.top_names, tree)
    complaints = Complaints()
    with ExitStack() as stack:
        line = _Line(tree, target, b"".join(name + b"\0" for name in names), tuple(pass_fds), stack)
        async with AsyncExitStack() as running:
            packer = await running.enter_async_context(await line.packer(compression))
            reader = await running.enter_async_context(await line.tar(complaints))
            ahead = await running.enter_async_context(await line.readahead())
            line.close_pipe()
            survey, (code, said) = await _both(last_report(ahead), _packing(reader, packer, ahead, report))
    packed = judgement.packed(said, code, complaints)
    judgement.compare(packed, judgement.surveyed(survey))
    if complaints.changed and await count_entries(tree, pass_fds=pass_fds) != survey:
        raise RunFailed(
            "The snapshot changed while it was packed.", "Nothing may write to snapshots: see who does.", code="changed"
        )
    return judgement.with_warnings(packed, judgement.surveyed(survey))


async def count_entries(tree: int, *, pass_fds: Sequence[int] = ()) -> Surveyed:
    """What there is in a snapshot apart from its own records. Raises RunFailed."""
    names = await in_thread(tar.top_names, tree)
    with ExitStack() as stack:
        told = programs.in_memory(b"".join(name + b"\0" for name in names), stack)
        started = await programs.start("readahead", str(tree), "-", pass_fds=(tree, *pass_fds), stdin=told)
        async with started as survey:
            return judgement.surveyed(await last_report(survey))


async def read_back(
    file: int, expected: Packed, compression: Compression, *, report: Hear | None = None, pass_fds: Sequence[int] = ()
) -> None:
    """Read an archive to its end, from the drive, and compare it with what was packed. Raises RunFailed.

    `file` is a descriptor that is open for reading. Cancelled, it ends its process first.
    """
    started = await programs.start("readback", compression.format, str(file), pass_fds=(file, *pass_fds))
    async with started as reader:
        judgement.same(expected, await last_report(reader, report))


async def _packing(reader: Running, packer: Running, ahead: Running, report: Hear) -> tuple[int, Report]:
    said, code = await _both(last_report(packer, report), reader.wait())
    if not isinstance(said, Packed):
        await ahead.end(grace_seconds=1.0)  # nobody tells it any more how far packing is
    return code, said


async def _both(first: Awaitable[_A], second: Awaitable[_B]) -> tuple[_A, _B]:
    """Wait for both; when one fails, the other is called off."""
    tasks = asyncio.ensure_future(first), asyncio.ensure_future(second)
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Line:
    """The processes of one archive, and what connects them. The stack closes this end of it."""

    def __init__(self, tree: int, target: int, names: bytes, pass_fds: tuple[int, ...], stack: ExitStack) -> None:
        self._tree, self._target, self._names, self._pass_fds = tree, target, names, pass_fds
        self._stack = stack
        self._position = Position.new()
        stack.callback(os.close, self._position)
        self._pipe = stack.enter_context(ExitStack())
        self._from_tar, self._to_packer = os.pipe()
        for end in (self._from_tar, self._to_packer):
            self._pipe.callback(os.close, end)

    def close_pipe(self) -> None:
        """Leave the pipe to those who use it, so that each notices when the other is gone."""
        self._pipe.close()

    async def readahead(self) -> Running:
        """Start what goes ahead of tar."""
        words, pass_fds = (str(self._tree), str(self._position)), (self._tree, self._position, *self._pass_fds)
        return await programs.start("readahead", *words, pass_fds=pass_fds, stdin=self._told())

    async def packer(self, compression: Compression) -> Running:
        """Start what compresses."""
        words = compression.format, str(compression.level), str(self._target), str(self._position)
        pass_fds = self._target, self._position, *self._pass_fds
        return await programs.start("packer", *words, pass_fds=pass_fds, stdin=self._from_tar)

    async def tar(self, complaints: Complaints) -> Running:
        """Start what reads the snapshot."""
        return await process.start(
            tar.command(self._tree),
            env=tar.ENVIRONMENT,
            pass_fds=(self._tree, *self._pass_fds),
            stdin=self._told(),
            stdout=self._to_packer,
            hear=complaints.hear,
        )

    def _told(self) -> int:
        return programs.in_memory(self._names, self._stack)
