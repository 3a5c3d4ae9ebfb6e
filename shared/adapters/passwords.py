"""Passwords as Argon2id hashes (RFC 9106, its second recommended choice: 64 MiB, three passes).

Each hash costs a tenth of a second and 64 MiB on purpose; so few are made at a time, and few may wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import unicodedata
from collections.abc import AsyncIterator
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from shared.adapters.threads import in_thread
from shared.domain.errors import BackupManagerError

MOST_AT_A_TIME: Final = 2
MOST_WAITING: Final = 16
WAIT_SECONDS: Final = 10.0


class TooManyPasswords(BackupManagerError):
    """More passwords are to be checked than this machine can check now."""


class Passwords:
    """Makes and checks hashes, off the event loop."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._turns = asyncio.Semaphore(MOST_AT_A_TIME)
        self._waiting = 0
        self._of_nobody: str | None = None

    async def hash(self, password: str) -> str:
        """The hash of a password."""
        async with self._turn():
            return await in_thread(self._hasher.hash, _canonical(password))

    async def matches(self, hashed: str | None, password: str) -> bool:
        """Whether a password is right. Without a hash it never is, and takes as long: nobody learns who exists."""
        async with self._turn():
            if hashed is None and self._of_nobody is None:
                self._of_nobody = await in_thread(self._hasher.hash, "the password of nobody")
            right = await in_thread(self._verify, hashed or self._of_nobody or "", _canonical(password))
        return right and hashed is not None

    async def prepare(self) -> None:
        """Make the hash of nobody before the first log-in, which would tell by its time that it had to be made."""
        await self.matches(None, "")

    def _verify(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._waiting >= MOST_WAITING:
            raise _too_many()
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._turns.acquire()
        except TimeoutError as error:
            raise _too_many() from error
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turns.release()


def _too_many() -> TooManyPasswords:
    return TooManyPasswords("Too many people log in at this moment.", "Try again in a minute.")


def _canonical(password: str) -> str:
    """The same password, whatever keyboard composed its letters (NIST SP 800-63B, 3.1.1.2)."""
    return unicodedata.normalize("NFKC", password)
