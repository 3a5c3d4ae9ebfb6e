"""One rsync transfer into a fresh directory, watched from its first byte to its last."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import io
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from services.snapshotter import rsync, sandbox
from services.snapshotter.connection import Connection
from services.snapshotter.failure import FREE_SOME
from services.snapshotter.output import OutputReader, Progress, Totals
from services.snapshotter.rsync import Ability, Complaints, Verdict
from shared.adapters import filesystem, process
from shared.adapters.clock import SystemClock
from shared.adapters.store import HostFolder, Store
from shared.adapters.threads import in_thread
from shared.domain.errors import RunFailed
from shared.domain.room import why_running_out

PROGRESS_SECONDS: Final = 5.0
STALL_SECONDS: Final = 1800.0
"""rsync has a time limit of its own, which the other side can switch off; this one it cannot."""
LEAST_BYTES: Final = 1024**2
LEAST_FILES: Final = 100
"""In so long, one of both has to come: a byte a minute would keep the worker from all other hosts for ever."""

MEMORY_SHARE: Final = 0.5
"""Of this machine's memory: a host may name files without end, and rsync remembers each of them."""

PIPE_BYTES: Final = 1024 * 1024
CHUNK_BYTES: Final = 256 * 1024
GATHER_SECONDS: Final = 0.02
"""rsync flushes each line by itself. Woken for each of them we would take more time than the transfer; so they gather
in a pipe that is large enough to never hold rsync up."""

Report = Callable[[int, Progress], Awaitable[None]]
"""Called with the number of files seen so far and the progress."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """What is to be moved: from where, into which fresh directory of the host's folder, sharing with which base."""

    connection: Connection
    store: Store
    folder: HostFolder
    partial: Path
    base: str | None
    lock_descriptor: int
    raw_list: Path


@dataclass(frozen=True, slots=True)
class Transferred:
    """How a transfer went. The list of files is in `raw_list`, unsorted."""

    totals: Totals
    verdict: Verdict
    exit_code: int


async def transfer(wish: Transfer, ability: Ability, clock: SystemClock, report: Report) -> Transferred:
    """Run rsync to its end. Raises RunFailed; then the directory is worth nothing."""
    try:
        return await _attempt(wish, ability, clock, report)
    except rsync.TooManyLinks as error:
        emptied = await in_thread(_emptied, wish)
        done = await _attempt(replace(emptied, base=None), ability, clock, report)
        warned = msgspec.structs.replace(
            done.verdict, warnings=(f"{error.message} All was copied.", *done.verdict.warnings)
        )
        return replace(done, verdict=warned)


async def _attempt(wish: Transfer, ability: Ability, clock: SystemClock, report: Report) -> Transferred:
    token = secrets.token_hex(8) + " "
    reader = OutputReader(token.encode())
    complaints = Complaints()
    command = process.with_little_memory(_command(wish, ability, token), MEMORY_SHARE)
    with contextlib.ExitStack() as output:
        read_end, write_end = _pipe(output)
        running = await process.start(
            command,
            env=sandbox.ENVIRONMENT | _home(),
            pass_fds=[wish.lock_descriptor],
            stdout=write_end.fileno(),
            hear=complaints.add,
        )
        write_end.close()  # so that the end of rsync is the end of the pipe
        async with running:
            await _read(read_end.fileno(), reader, wish, clock, report)
            exit_code = await running.wait()
    complaints.end()
    verdict = rsync.judge(exit_code, complaints)
    return Transferred(reader.totals(), verdict, exit_code)


def _command(wish: Transfer, ability: Ability, token: str) -> list[str]:
    connection, host = wish.connection, wish.connection.host
    inside = ability.confined
    top = Path(sandbox.INSIDE_HOST) if inside else wish.folder.path
    if connection.sockets is None:
        # The source lies inside the walls too: there, the check of each part of each path stays on.
        ability = msgspec.structs.replace(ability, insecure_links=False)
    command = rsync.arguments(
        ability=ability,
        token=token,
        sources=connection.sources(inside=inside),
        destination=f"{top / wish.partial.name}/",
        excludes=host.excludes,
        base=f"{top}/hourly/{wish.base}" if wish.base else None,
        shell=connection.shell(inside=inside),
        bandwidth_limit_kib=host.bandwidth_limit_kib,
    )
    if not inside:
        return process.dying_with_parent(command)
    return sandbox.confined(
        command,
        host_folder=wish.folder.path,
        sockets=connection.sockets,
        sources=connection.local_paths,
        begin_in=wish.partial.name,
    )


def _home() -> dict[str, str]:
    return {"HOME": os.environ.get("HOME", "/")}


def _pipe(stack: contextlib.ExitStack) -> tuple[io.FileIO, io.FileIO]:
    read_end, write_end = (stack.enter_context(io.FileIO(end, mode)) for end, mode in zip(os.pipe(), "rw", strict=True))
    with contextlib.suppress(OSError):  # the system allows less; then rsync waits for us now and then
        fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return read_end, write_end


async def _gathered(pipe: int) -> AsyncIterator[bytes]:
    """What comes through a pipe, in pieces as large as a short pause makes them."""
    loop = asyncio.get_running_loop()
    chunk = b""
    while True:
        something = asyncio.Event()
        loop.add_reader(pipe, something.set)
        try:
            await something.wait()
        finally:
            loop.remove_reader(pipe)
        if len(chunk) < CHUNK_BYTES:
            await asyncio.sleep(GATHER_SECONDS)
        if not (chunk := os.read(pipe, CHUNK_BYTES)):
            return
        yield chunk


async def _read(pipe: int, reader: OutputReader, wish: Transfer, clock: SystemClock, report: Report) -> None:
    reported = clock.monotonic()
    chunks, pace = _gathered(pipe), Pace(reported)
    with wish.raw_list.open("wb") as kept:
        while True:
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    chunk = await anext(chunks, b"")
            except TimeoutError as error:
                raise RunFailed(
                    f"Nothing moved for {STALL_SECONDS / 60:g} minutes.", code="stalled", transient=True
                ) from error
            if not chunk:
                return
            kept.write(reader.take(chunk))
            pace.check(clock.monotonic(), reader)
            if clock.monotonic() - reported >= PROGRESS_SECONDS:
                reported = clock.monotonic()
                if reason := why_running_out(wish.store.room()):
                    raise RunFailed(reason, FREE_SOME, code=rsync.NO_ROOM)
                await report(reader.entries, reader.progress)


class Pace:
    """Whether a transfer gets on."""

    def __init__(self, now: float) -> None:
        self._since, self._bytes, self._files = now, 0, 0

    def check(self, now: float, reader: OutputReader) -> None:
        """Raise RunFailed when hardly anything came for as long as nothing may come."""
        moved, files = reader.progress.transferred_bytes, reader.entries
        if moved - self._bytes >= LEAST_BYTES or files - self._files >= LEAST_FILES:
            self._since, self._bytes, self._files = now, moved, files
        elif now - self._since >= STALL_SECONDS:
            raise RunFailed(
                f"Hardly anything moved for {STALL_SECONDS / 60:g} minutes: {moved - self._bytes:,} bytes.",
                "Is the network all right? Other hosts wait meanwhile.",
                code="stalled",
                transient=True,
            )


def _emptied(wish: Transfer) -> Transfer:
    """The same wish with an empty directory again: rsync never runs twice into one that has hard links."""
    filesystem.remove_tree(wish.partial.name, at=wish.folder.descriptor)
    os.mkdir(wish.partial.name, 0o700, dir_fd=wish.folder.descriptor)
    return wish


async def find_ability(*, attributes: bool) -> Ability:
    """What this machine's rsync can do. Raises ToolMissing."""
    shown = await process.run(["rsync", "--version"], timeout_seconds=10)
    options = await process.run(["rsync", "--help"], timeout_seconds=10)
    words = shown.stdout.decode(errors="replace").split()
    version = words[words.index("version") + 1] if "version" in words else "unknown"
    confined = not await sandbox.why_not_confined()
    return Ability(
        version=version,
        insecure_links=b"--insecure-links" in options.stdout,
        confined=confined,
        attributes=attributes,
        acls=attributes and (os.geteuid() == 0 or not confined),
    )
