"""The processes below a process: finding them, and ending them without one slipping away.

Sessions of sshd lead process groups of their own, so ending the group of the listener would leave them behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Final

GONE_WITHIN_SECONDS: Final = 10.0


async def end_below(pid: int) -> None:
    """Kill every process below this one and wait until they have ended; the process itself goes on.

    Raises TimeoutError when they do not end within 10 s. Does nothing when the process itself is gone.
    """
    with contextlib.ExitStack() as handles:
        try:
            async with asyncio.timeout(GONE_WITHIN_SECONDS):
                below = await frozen_below(pid, handles)
                for handle in below:
                    send(handle, signal.SIGKILL)
                for handle in below:
                    await until_readable(handle)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def frozen_below(pid: int, handles: contextlib.ExitStack) -> list[int]:
    """Stop a process and everything below it, so that nothing new appears; pid descriptors of those below.

    A stopped parent starts nothing more, so looking again until nothing new is found finds all of them.
    """
    frozen: dict[int, int] = {}
    found = {pid}
    while found:
        for member in found:
            with contextlib.suppress(ProcessLookupError):
                frozen[member] = os.pidfd_open(member)
                handles.callback(os.close, frozen[member])
                send(frozen[member], signal.SIGSTOP)
        await asyncio.sleep(0)  # lets the time limit of the caller act
        family = set(frozen)
        found = {child for child, parent in parents() if parent in family} - family
    return [handle for member, handle in frozen.items() if member != pid]


def parents() -> Iterator[tuple[int, int]]:
    """Every process of this machine that has not ended, and its parent."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                # The name in parentheses may itself contain parentheses; the parent follows the last one.
                state, parent = Path("/proc", name, "stat").read_bytes().rpartition(b")")[2].split()[:2]
                if state not in b"ZX":
                    yield int(name), int(parent)


def send(handle: int, number: int) -> None:
    """Send a signal to the process behind a pid descriptor; nothing happens when it has ended."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, number)


async def until_readable(descriptor: int) -> None:
    """Wait until there is something to read: for a pid descriptor, until the process has ended."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(descriptor, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(descriptor)
