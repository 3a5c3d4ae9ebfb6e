"""Log-ins: the password is checked when the limits allow another try."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import Final

from shared.adapters.clock import SystemClock
from shared.domain.access import User, UserName, parse_user_name
from shared.domain.errors import BackupManagerError, LogUnavailable, NameRefused
from shared.domain.login_limits import LoginLimits, RefusalTally
from shared.domain.wording import duration
from shared.runtime.accounts import Accounts

TELL_EVERY_SECONDS: Final = 60.0


class WrongPassword(BackupManagerError):
    """The name or the password is wrong; nobody is told which."""


class TooManyTries(BackupManagerError):
    """Too many wrong passwords: the next try has to wait."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"Too many wrong passwords: try again in {duration(math.ceil(seconds))}.")
        self.seconds = math.ceil(seconds)


class Logins:
    """Checks passwords, as often as the limits allow."""

    def __init__(self, accounts: Accounts, clock: SystemClock) -> None:
        self.accounts = accounts
        self._clock = clock
        self._limits = LoginLimits()
        self._tally = RefusalTally()

    async def check(self, name: str, password: str, address: str) -> User:
        """The user whose password this is. Raises WrongPassword, TooManyTries, TooManyPasswords, LogUnavailable."""
        known = _parsed(name)
        now = self._clock.monotonic()
        wait = self._limits.must_wait(known, address, now)
        if wait > 0:
            await self._refused("", address)
            raise TooManyTries(wait)
        self._limits.failed(known, address, now)  # many tries at once are many tries
        found = await self.accounts.store.credentials(known)
        right = await self.accounts.passwords.matches(found[1] if found else None, password)
        if found is None or not right:
            await self._refused(known if found else "", address)
            raise WrongPassword("The name or the password is wrong.")
        self._limits.succeeded(known, address)
        return found[0]

    async def _refused(self, user: str, address: str) -> None:
        with contextlib.suppress(LogUnavailable):  # it is refused all the same
            await self.accounts.note(*self._tally.refused(user, address, self._clock.monotonic()))

    async def keep_telling(self) -> None:
        """Tell the log, for ever, what was only counted so far and what it missed."""
        while True:
            try:
                await self.accounts.note(*self._tally.due(self._clock.monotonic()))
                await self.accounts.tell()
            except LogUnavailable:
                pass  # it is told in the next round
            await asyncio.sleep(TELL_EVERY_SECONDS)


def _parsed(name: str) -> UserName:
    """The name as it is counted; whatever is not one counts as the same."""
    try:
        return parse_user_name(name.strip().lower())
    except NameRefused:
        return UserName("")
