"""Operating-system processes: the only place that starts any.

Every process is an argument list (never a shell), the leader of its own process group (so that ending it ends
its children), and has a bounded memory of what it said.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from shared.domain.errors import BackupManagerError, ToolMissing

OUTPUT_LIMIT_BYTES: Final = 256 * 1024
CHUNK_BYTES: Final = 64 * 1024


class ProcessTimedOut(BackupManagerError):
    """A process did not end in time and was ended."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a process ended: its exit code (negative: the signal that ended it) and what it said last."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def said(self) -> str:
        """The last lines of its error output, or of its output where it had none."""
        return (self.stderr or self.stdout).decode(errors="backslashreplace").strip()


def dying_with_parent(argv: Sequence[str], *, signal_name: str = "KILL", user: str | None = None) -> list[str]:
    """The command, arranged so that the kernel sends it a signal when the process that started it dies."""
    wrapped = ["setpriv", "--pdeathsig", signal_name]
    if user is not None:
        wrapped += ["--reuid", user, "--regid", user_group(user), "--clear-groups"]
    return [*wrapped, "--", *argv]


def with_little_memory(argv: Sequence[str], share: float) -> list[str]:
    """The command, allowed only a share of this machine's memory; asking for more it is refused, and says so."""
    limit_bytes = int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * share)
    return ["prlimit", f"--data={limit_bytes}", "--", *argv]


def user_group(user: str) -> str:
    """The numeric primary group of a local user. Raises KeyError when there is no such user."""
    import pwd  # noqa: PLC0415  # POSIX only, and only this function needs it

    return str(pwd.getpwnam(user).pw_gid)


class Tail:
    """The last bytes of an output, however long it is."""

    def __init__(self, limit_bytes: int = OUTPUT_LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._kept = bytearray()

    def add(self, chunk: bytes) -> None:
        """Remember a chunk and forget what no longer fits."""
        self._kept += chunk
        if len(self._kept) > 2 * self._limit_bytes:
            del self._kept[: -self._limit_bytes]

    def __bytes__(self) -> bytes:
        return bytes(self._kept[-self._limit_bytes :])


class Running:
    """A process that is under way; leaving the block ends whatever of it is still alive.

    Its error output is drained into `stderr` all the time; its output is read with `chunks()`.
    """

    def __init__(
        self, argv: Sequence[str], process: asyncio.subprocess.Process, hear: Callable[[bytes], None] | None
    ) -> None:
        self.argv = tuple(argv)
        self.pid = process.pid
        self.stderr = Tail()
        self._hear = hear or self.stderr.add
        self._process = process
        self._drain = asyncio.create_task(self._read_stderr(), name=f"stderr of {argv[0]}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end(grace_seconds=2.0)

    @property
    def returncode(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.returncode

    async def chunks(self) -> AsyncIterator[bytes]:
        """What it prints, in pieces as they come."""
        stdout = self._process.stdout
        while stdout and (chunk := await stdout.read(CHUNK_BYTES)):
            yield chunk

    async def wait(self) -> int:
        """Wait until it ended and said everything; returns the exit code."""
        code = await self._process.wait()
        await asyncio.wait([self._drain], timeout=5)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal to the whole process group; nothing happens when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    async def end(self, *, grace_seconds: float) -> None:
        """SIGTERM for the whole group, then SIGKILL after the grace time (seconds)."""
        if self._process.returncode is None:
            self.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(grace_seconds):
                    await self._process.wait()
            except TimeoutError:
                self.send_signal(signal.SIGKILL)
                await self._process.wait()
        # Whatever inherited its error output may live a moment longer; then its end is the end of them all.
        await asyncio.wait([self._drain], timeout=grace_seconds)
        self._drain.cancel()
        await asyncio.gather(self._drain, return_exceptions=True)

    async def _read_stderr(self) -> None:
        stderr = self._process.stderr
        while stderr and (chunk := await stderr.read(CHUNK_BYTES)):
            self._hear(chunk)


async def start(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    stdout: int = asyncio.subprocess.PIPE,
    stderr: int = asyncio.subprocess.PIPE,
    stdin: int = asyncio.subprocess.DEVNULL,
    hear: Callable[[bytes], None] | None = None,
) -> Running:
    """Start a process as the leader of a new group. Raises ToolMissing when there is no such program.

    `hear` takes the pieces of its error output instead of `stderr`.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=env,
            cwd=cwd,
            pass_fds=pass_fds,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise ToolMissing(f"The program {argv[0]} is not installed.", "Install it and try again.") from error
    return Running(argv, process, hear)


async def run(
    argv: Sequence[str],
    *,
    timeout_seconds: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Finished:
    """Run a process to its end, keeping the tail of its output. Raises ProcessTimedOut and ToolMissing."""
    tail = Tail()
    async with await start(argv, env=env, cwd=cwd) as running:
        try:
            async with asyncio.timeout(timeout_seconds):
                async for chunk in running.chunks():
                    tail.add(chunk)
                code = await running.wait()
        except TimeoutError as error:
            raise ProcessTimedOut(f"{argv[0]} did not end within {timeout_seconds:g} s.") from error
    return Finished(tuple(argv), code, bytes(tail), bytes(running.stderr))
