"""The programs of this package as processes: started, listened to, and ended with whoever started them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack

import msgspec

from services.archiver.reports import Lines, Packing, Report, Trouble
from shared.adapters import process
from shared.adapters.process import Running, dying_with_parent

Hear = Callable[[Packing], Awaitable[None]]
"""Called about twice a second with how far it is."""


async def start(program: str, *words: str, pass_fds: Sequence[int], stdin: int = asyncio.subprocess.DEVNULL) -> Running:
    """Start a module of this package. Raises ToolMissing."""
    argv = dying_with_parent([sys.executable, "-m", f"services.archiver.{program}", *words])
    return await process.start(argv, pass_fds=pass_fds, stdin=stdin)


async def last_report(running: Running, hear: Hear | None = None) -> Report:
    """Listen until the program ends; what it said last. A program that dies says a Trouble of its own."""
    lines = Lines()
    last: Report | None = None
    try:
        async for chunk in running.chunks():
            for report in lines.take(chunk):
                last = report
                if hear is not None and isinstance(report, Packing):
                    await hear(report)
    except msgspec.MsgspecError as error:
        return Trouble("program", 0, f"it said what nobody understands ({error})")
    code = await running.wait()
    if last is None or isinstance(last, Packing) or (code != 0 and not isinstance(last, Trouble)):
        words = bytes(running.stderr).decode("ascii", "backslashreplace").strip().splitlines()
        return Trouble("program", 0, f"exit code {code}: {words[-1] if words else 'no word'}")
    return last


def in_memory(content: bytes, stack: ExitStack) -> int:
    """A descriptor of a file that is nowhere but in memory, to be read from its beginning."""
    descriptor = os.memfd_create("names")
    stack.callback(os.close, descriptor)
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
