"""Who asks: a session of a browser, a token of a program, this machine while there are no users, or nobody."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any, Final

import msgspec
from litestar.connection import ASGIConnection
from litestar.types import Scope

from services.api.live import Live
from shared.adapters.access import AccessStore
from shared.adapters.clock import SystemClock
from shared.adapters.secret import TOKEN_PREFIX, hash_of
from shared.domain.access import NOBODY, THIS_MACHINE, Permission, Who, who_is
from shared.domain.errors import LogUnavailable

COOKIE: Final = "bm_session"
LOOK_SECONDS: Final = 2.0
MOST_REMEMBERED: Final = 1_000
ONLY_LOOKING: Final = frozenset({Permission.VIEW})

Connection = ASGIConnection[Any, Any, Any, Any]


class Askers:
    """Tells who asks. While there are no users, whoever is on this machine may look and run."""

    def __init__(self, store: AccessStore, clock: SystemClock) -> None:
        self._store = store
        self._clock = clock
        self._has_users: bool | None = None
        self.first_user = asyncio.Event()
        self._remembered: OrderedDict[bytes, Who] = OrderedDict()

    async def has_users(self) -> bool:
        """Whether anybody has to log in. Once there is a user there always is an admin. Raises LogUnavailable."""
        if self._has_users is None:
            await self.look()
        return bool(self._has_users)

    async def look(self) -> None:
        """See whether the first user has come. Raises LogUnavailable."""
        self._has_users = self._has_users or await self._store.has_users()
        if self._has_users:
            self.first_user.set()

    async def wait_for_the_first(self, live: Live) -> None:
        """Return when there is a user: others than this process may add one."""
        while not self.first_user.is_set():
            try:
                await self.look()
            except LogUnavailable:
                await asyncio.sleep(LOOK_SECONDS)
                continue
            if not self.first_user.is_set():
                await live.change_after(live.state.position, LOOK_SECONDS)

    async def who(self, scope: Scope) -> Who:
        """Who sent this request. Raises LogUnavailable."""
        if not await self.has_users():
            return THIS_MACHINE
        connection: Connection = ASGIConnection(scope)
        address = address_of(scope)
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return await self._of_token(token.strip(), address)
        session = connection.cookies.get(COOKIE)
        return await self._of_session(session, address) if session else NOBODY

    async def _of_token(self, token: str, address: str) -> Who:
        if not token.startswith(TOKEN_PREFIX):
            return NOBODY
        found = await self._store.user_of_token(hash_of(token))
        return NOBODY if found is None else who_is(found[0], token=found[1], address=address)

    async def _of_session(self, session: str, address: str) -> Who:
        hashed = hash_of(session)
        try:
            user = await self._store.user_of_session(hashed, self._clock.now())
        except LogUnavailable:
            # Whoever was logged in a moment ago may look what is wrong, but do nothing: it cannot be checked now.
            if hashed not in self._remembered:
                raise
            return msgspec.structs.replace(self._remembered[hashed], permissions=ONLY_LOOKING)
        self._remembered.pop(hashed, None)
        if user is None:
            return NOBODY
        who = who_is(user, address=address)
        self._remembered[hashed] = who
        if len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        return who


def address_of(scope: Scope) -> str:
    """Where a request comes from; the server has believed X-Forwarded-For from this machine alone."""
    client = scope.get("client")
    return client[0] if client else ""


def session_of(connection: Connection) -> str:
    """The secret of the session that a request bears; empty without one."""
    return connection.cookies.get(COOKIE, "")
