"""The directory that an embedded server lives in: who may enter it, who owns it now, and its private files."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pwd
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from shared.adapters import process
from shared.domain.errors import BackupManagerError, ToolMissing

ACCOUNTS: Final = ("backup-manager", "postgres", "nobody")
LOG_LIMIT_BYTES: Final = 10 * 1024 * 1024
LOG_TAIL_BYTES: Final = 4096
TRY_TIMEOUT_SECONDS: Final = 10.0
RUNNING_WAIT_SECONDS: Final = 1.0
LEAVING_WAIT_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.02


class ServerRefused(ToolMissing):
    """An embedded server cannot run on this data directory; the message says why and what to do."""


class ServerFailed(BackupManagerError):
    """An embedded server did not come up; the message holds the end of its log. Trying again may help."""


@dataclass(frozen=True, slots=True)
class Account:
    """A local user that a server runs as."""

    name: str
    uid: int
    gid: int

    @classmethod
    def of(cls, uid: int) -> Self:
        """The user with this number. Raises ServerRefused when the machine knows none."""
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            raise ServerRefused(
                f"The database files belong to user number {uid}, which this machine does not know.",
                "Create that user, or restore the owner of the files.",
            ) from None
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid)

    @classmethod
    def unprivileged(cls) -> Self:
        """The first of ACCOUNTS that exists here. Raises ServerRefused when none does."""
        known = {entry.pw_name: entry.pw_uid for entry in pwd.getpwall()}
        for name in ACCOUNTS:
            if known.get(name):
                return cls.of(known[name])
        raise ServerRefused("A server must not run as root.", f"Create one of the users {', '.join(ACCOUNTS)}.")


def make_directory(path: Path, mode: int = 0o711) -> None:
    """Create a directory and its missing parents with exactly this mode; what exists stays as it is."""
    if path.is_dir():
        return
    make_directory(path.parent, mode)
    path.mkdir(exist_ok=True)
    path.chmod(mode)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, replacing it whole or not at all."""
    partial = path.with_name(f".{path.name}.new")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    partial.rename(path)


def secret(path: Path) -> str:
    """The secret kept in this file; a new random one is made when there is none yet."""
    if not path.exists():
        write_private(path, secrets.token_hex(24) + "\n")
    return path.read_text(encoding="utf-8").strip()


async def require_searchable(directory: Path, account: Account) -> None:
    """Make sure that this user can reach a directory by really trying, so that ACLs and mounts count as well.

    Raises ServerRefused that names the first directory on the way which it cannot enter.
    """
    if await _can_enter(directory, account):
        return
    for step in [*reversed(directory.parents), directory]:
        if not await _can_enter(step, account):
            raise ServerRefused(
                f"User {account.name}, which the server runs as, cannot enter {step}.",
                f"Run `chmod o+x {step}`, or choose a data directory somewhere else.",
            )


async def _can_enter(directory: Path, account: Account) -> bool:
    argv = process.dying_with_parent(["test", "-x", str(directory)], user=account.name)
    return (await process.run(argv, timeout_seconds=TRY_TIMEOUT_SECONDS)).returncode == 0


class Log:
    """The file a server writes its log to. What it said since this start explains a failed start."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and path.stat().st_size > LOG_LIMIT_BYTES:
            path.replace(path.with_name(f"{path.name}.1"))
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        self._start_bytes = os.fstat(self._descriptor).st_size

    def fileno(self) -> int:
        """The descriptor to hand to the server."""
        return self._descriptor

    def tail(self) -> str:
        """The last lines written since this start."""
        size_bytes = os.fstat(self._descriptor).st_size
        offset = max(self._start_bytes, size_bytes - LOG_TAIL_BYTES)
        return os.pread(self._descriptor, LOG_TAIL_BYTES, offset).decode(errors="backslashreplace").strip()

    def close(self) -> None:
        """Close our copy; the server keeps its own."""
        os.close(self._descriptor)


class Claim:
    """The exclusive right to run a server in a directory: a lock that the server and its children inherit.

    So it is held until the last of them is gone, even when we or the server are killed, and a process number
    that was given to another program meanwhile cannot be mistaken for the server.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    async def take(cls, path: Path) -> Self:
        """Take the lock. Waits for a server that is on its way out, refuses (ServerRefused) one that runs."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        waited_seconds = 0.0
        while not _lock(descriptor):
            server, starter = _holders(descriptor)
            leaving = not (_is_alive(server) and _is_alive(starter))
            if waited_seconds >= (LEAVING_WAIT_SECONDS if leaving else RUNNING_WAIT_SECONDS):
                os.close(descriptor)
                raise ServerRefused(
                    f"A server is already running in {path.parent}, pid {server or 'unknown'}.",
                    "Stop the program that started it first.",
                )
            await asyncio.sleep(POLL_SECONDS)
            waited_seconds += POLL_SECONDS
        claim = cls(descriptor)
        claim.note(os.getpid())
        return claim

    def fileno(self) -> int:
        """The descriptor that the server must inherit."""
        return self._descriptor

    def note(self, server_pid: int) -> None:
        """Write down who holds the lock now, for the message of whoever is refused."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{server_pid} {os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Close our copy: from here on the lock lives exactly as long as the server."""
        os.close(self._descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holders(descriptor: int) -> tuple[int, int]:
    """The process numbers of the server and of the program that started it; 0 where they are not known."""
    words = os.pread(descriptor, 64, 0).split()
    if len(words) != 2 or not all(word.isdigit() for word in words):
        return 0, 0
    return int(words[0]), int(words[1])


def _is_alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie that only waits to be collected."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] not in {b"Z", b"X"}
