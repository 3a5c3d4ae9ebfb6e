"""A connection to the database, which is opened when it is needed and again after it broke.

Everything that means "not reachable now" is LogUnavailable.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final, NoReturn

import asyncpg

from shared.adapters.migrate import check_schema
from shared.domain.errors import LogRefused, LogUnavailable

CONNECT_TIMEOUT_SECONDS: Final = 5.0
STATEMENT_TIMEOUT_SECONDS: Final = 30.0

GONE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a statement right after the server's goodbye, before its socket is closed
    TimeoutError,
)
STARTING = (
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.QueryCanceledError,
    asyncpg.InsufficientResourcesError,
)


class Wire:
    """One connection that is opened when it is needed and again after it broke; used by one caller at a time."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def use(self) -> AsyncIterator[asyncpg.Connection]:
        """The connection, for as long as the block lasts. Raises LogUnavailable and LogRefused."""
        async with self._turn:
            if self._connection is None or self._connection.is_closed():
                self._connection = await self._open()
            try:
                yield self._connection
            except (*GONE, *STARTING) as error:
                self._connection.terminate()
                unavailable(error)

    async def _open(self) -> asyncpg.Connection:
        connection = await connect(self._dsn)
        try:
            await check_schema(connection)
        except (*GONE, *STARTING) as error:
            connection.terminate()
            unavailable(error)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def close(self) -> None:
        """Close it."""
        if self._connection is not None and not self._connection.is_closed():
            with contextlib.suppress(*GONE, *STARTING):
                await self._connection.close(timeout=2)


async def connect(dsn: str) -> asyncpg.Connection:
    """A connection of the caller's own. Raises LogUnavailable, and LogRefused for a wrong user or password."""
    try:
        return await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_SECONDS, command_timeout=STATEMENT_TIMEOUT_SECONDS)
    except (*GONE, *STARTING) as error:
        unavailable(error)
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        hint = "Check POSTGRES_DSN, and the file POSTGRES_PASSWORD_FILE if it is set."
        raise LogRefused(f"The event log refuses this user: {error}.", hint) from error


def unavailable(error: BaseException) -> NoReturn:
    """Say that the log cannot be reached. Raises LogUnavailable."""
    reason = str(error) or type(error).__name__
    raise LogUnavailable(f"The event log cannot be reached: {reason}.", "Is Postgres running?") from error
