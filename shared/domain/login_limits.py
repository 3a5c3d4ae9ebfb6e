"""How often a password may be tried, and what of the refusals is told. Pure: the time is given, in seconds.

The first tries are free; then each failure doubles the wait, for the user and for the address. A user's wait stays
short, because anybody can cause it: it must not lock its owner out. An address waits much longer.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from typing import Final

import msgspec

from shared.domain.events_access import LoginRefused

FREE_TRIES: Final = 5
FIRST_WAIT_SECONDS: Final = 1.0
LONGEST_WAIT_OF_USER_SECONDS: Final = 30.0
LONGEST_WAIT_OF_ADDRESS_SECONDS: Final = 900.0
FORGOTTEN_AFTER_SECONDS: Final = 3600.0
MOST_KEYS: Final = 5_000

MOST_TOLD: Final = 20
TELLING_PERIOD_SECONDS: Final = 3600.0


def wait_seconds(failures: int, longest_seconds: float) -> float:
    """How long to wait after so many failures in a row."""
    if failures < FREE_TRIES:
        return 0.0
    return min(longest_seconds, FIRST_WAIT_SECONDS * 2.0 ** min(failures - FREE_TRIES, 64))


def network_of(address: str) -> str:
    """What counts as one address: whoever has an IPv6 address has 2^64 of them."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


class _Tries(msgspec.Struct):
    failures: int
    last: float


class _Table:
    """Failures by key; the one that failed longest ago makes room."""

    def __init__(self, longest_seconds: float, most: int) -> None:
        self._longest_seconds = longest_seconds
        self._most = most
        self._tries: OrderedDict[str, _Tries] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tries)

    def must_wait(self, key: str, now: float) -> float:
        tries = self._tries.get(key)
        if tries is None:
            return 0.0
        return max(0.0, tries.last + wait_seconds(tries.failures, self._longest_seconds) - now)

    def failed(self, key: str, now: float) -> None:
        tries = self._tries.pop(key, None)
        if tries is None or now - tries.last > FORGOTTEN_AFTER_SECONDS:
            tries = _Tries(0, now)
        self._tries[key] = _Tries(tries.failures + 1, now)
        while len(self._tries) > self._most:
            self._tries.popitem(last=False)

    def forget(self, key: str) -> None:
        self._tries.pop(key, None)

    def take_back(self, key: str) -> None:
        if key in self._tries:
            self._tries[key].failures -= 1


class LoginLimits:
    """Who has to wait before the next try."""

    def __init__(self, most_keys: int = MOST_KEYS) -> None:
        self._users = _Table(LONGEST_WAIT_OF_USER_SECONDS, most_keys)
        self._addresses = _Table(LONGEST_WAIT_OF_ADDRESS_SECONDS, most_keys)

    def __len__(self) -> int:
        return len(self._users) + len(self._addresses)

    def must_wait(self, user: str, address: str, now: float) -> float:
        """How many seconds to wait before the next try; 0 for none."""
        return max(self._users.must_wait(user, now), self._addresses.must_wait(network_of(address), now))

    def failed(self, user: str, address: str, now: float) -> None:
        """A try failed. Counted when it begins, and taken back by `succeeded`: many at once are many."""
        self._users.failed(user, now)
        self._addresses.failed(network_of(address), now)

    def succeeded(self, user: str, address: str) -> None:
        """The password was right. The address keeps its other failures: whoever has one account may try others'."""
        self._users.forget(user)
        self._addresses.take_back(network_of(address))


class RefusalTally:
    """What of the refused log-ins the log is told: an attacker must not fill what can never forget.

    The first of each hour are told one by one, with their user and address; the rest as one number.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._told = 0
        self._untold = 0

    def refused(self, user: str, address: str, now: float) -> list[LoginRefused]:
        """A log-in was refused; what is to be told now."""
        facts = self.due(now)
        if self._since is None:
            self._since, self._told = now, 0
        if self._told < MOST_TOLD:
            self._told += 1
            return [*facts, LoginRefused(user=user, address=address)]
        self._untold += 1
        return facts

    def due(self, now: float) -> list[LoginRefused]:
        """What is to be told because the hour is over."""
        if self._since is None or now - self._since < TELLING_PERIOD_SECONDS:
            return []
        self._since = None
        return self.rest()

    def rest(self) -> list[LoginRefused]:
        """What was only counted so far."""
        attempts, self._untold = self._untold, 0
        return [LoginRefused(attempts=attempts)] if attempts else []
