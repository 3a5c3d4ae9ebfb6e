"""Makes database and bus ready for the services; safe to repeat, and to interrupt."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from shared.adapters.bus_permissions import PROVISION
from shared.adapters.jetstream import Bus, BusUser
from shared.adapters.migrate import migrate
from shared.config import Settings
from shared.domain.errors import LogRefused, LogUnavailable

CONNECT_TIMEOUT_SECONDS: Final = 10.0
LOST: Final = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


@dataclass(frozen=True, slots=True)
class Provisioned:
    """What was done: the migrations that were applied."""

    migrations: tuple[str, ...]


async def provision(
    settings: Settings,
    *,
    admin_dsn: str,
    nats_url: str,
    nkey_file: Path | None = None,
    passwords: Mapping[str, str] | None = None,
) -> Provisioned:
    """Create roles, schema, streams and consumers, or bring them up to date.

    Raises LogUnavailable, LogRefused, SchemaMismatch, BusUnavailable and KeyRefused.
    """
    applied = await provision_log(admin_dsn, passwords or {})
    await provision_bus(settings, nats_url, nkey_file)
    return Provisioned(tuple(applied))


async def provision_bus(settings: Settings, nats_url: str, nkey_file: Path | None = None) -> None:
    """The bus part of it. Raises BusUnavailable and KeyRefused."""
    bus = await Bus.connect(nats_url, BusUser(PROVISION, nkey_file))
    try:
        await bus.provision(settings.stores, settings.timing.ack_wait_seconds, settings.nats_replicas)
    finally:
        await bus.close()


async def provision_log(admin_dsn: str, passwords: Mapping[str, str]) -> list[str]:
    """The database part of it; returns the migrations that were applied."""
    try:
        connection = await asyncpg.connect(admin_dsn, timeout=CONNECT_TIMEOUT_SECONDS)
    except (OSError, asyncpg.CannotConnectNowError, TimeoutError) as error:
        raise LogUnavailable(f"Postgres cannot be reached: {error}.", "Is it running?") from error
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise LogRefused(f"Postgres refuses the administrator: {error}.", "Check POSTGRES_ADMIN_DSN.") from error
    try:
        return await migrate(connection, dict(passwords))
    except LOST as error:
        raise LogUnavailable(f"Postgres went away: {error}.", "Run this again; nothing was done by halves.") from error
    finally:
        with contextlib.suppress(*LOST, TimeoutError):
            await connection.close(timeout=CONNECT_TIMEOUT_SECONDS)
