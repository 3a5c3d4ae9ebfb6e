"""rsync as a process: moving, and comparing afterwards."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Final

from services.restorer import rsync
from services.restorer.compare import Differences
from services.restorer.rsync import Moved, Push
from shared.adapters import process
from shared.adapters.filesystem import FileLock
from shared.domain.errors import RunFailed

STALL_SECONDS: Final = 1800.0
LONGEST_LINE_BYTES: Final = 64 * 1024
ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin:/usr/local/bin", "LC_ALL": "C", "TZ": "UTC"}

TellMoved = Callable[[Moved], Awaitable[None]]


async def move(push: Push, lock: FileLock, tell: TellMoved, *, acls: bool, bandwidth_limit_kib: int | None) -> None:
    """Run rsync to its end; a cancellation ends it. Raises RunFailed."""
    argv = rsync.moving(push, acls=acls, bandwidth_limit_kib=bandwidth_limit_kib)

    async def hear(chunk: bytes) -> None:
        if (moved := rsync.newest_progress(chunk)) is not None:
            await tell(moved)

    await _run(argv, lock, hear)


async def differing(push: Push, lock: FileLock, *, acls: bool) -> Differences:
    """What a host has otherwise than the restore point, by content and attributes. Raises RunFailed."""
    found, rest = Differences(), b""

    async def hear(chunk: bytes) -> None:
        nonlocal rest
        *lines, rest = (rest + chunk).split(b"\n")
        rest = rest[:LONGEST_LINE_BYTES]
        for line in lines:
            if line:
                kind, _, name = line.partition(b" ")
                found.add(name, kind.decode(errors="replace"))

    await _run(rsync.comparing(push, acls=acls), lock, hear)
    return found


async def _run(argv: list[str], lock: FileLock, hear: Callable[[bytes], Awaitable[None]]) -> None:
    env = ENVIRONMENT | {"HOME": os.environ.get("HOME", "/")}
    wrapped = process.dying_with_parent(argv)
    async with await process.start(wrapped, env=env, pass_fds=[lock.descriptor]) as running:
        chunks = running.chunks()
        while True:
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    chunk = await anext(chunks, b"")
            except TimeoutError as error:
                raise RunFailed(
                    f"Nothing moved for {STALL_SECONDS / 60:g} minutes.", code="stalled", transient=True
                ) from error
            if not chunk:
                break
            await hear(chunk)
        code = await running.wait()
        said = bytes(running.stderr).decode(errors="backslashreplace")
    rsync.judge(128 - code if code < 0 else code, said)


async def keeps_acls() -> bool:
    """Whether the rsync of this machine can carry ACLs. Raises ToolMissing."""
    shown = await process.run(["rsync", "--version"], timeout_seconds=10)
    return b"ACLs" in shown.stdout and b"no ACLs" not in shown.stdout
