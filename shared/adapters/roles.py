"""The roles of the database: who they are, and who may append what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import asyncpg

from shared.domain.writers import WRITERS, Service, role_of, type_names

OWNER: Final = "backup_owner"
READERS: Final = "backup_worker"
ANON: Final = "backup_anon"
SERVICE_ROLES: Final = tuple(role_of(service) for service in Service)
ROLES: Final = (OWNER, READERS, *SERVICE_ROLES, ANON)

# Before the services had roles of their own, these two could do everything.
_NO_LONGER_FOR_ALL: Final = f"""
    REVOKE EXECUTE ON FUNCTION log.append, log.anchor FROM {READERS};
    REVOKE ALL ON ALL TABLES IN SCHEMA access FROM {READERS};
    REVOKE USAGE ON SCHEMA access FROM {READERS};
    REVOKE ALL ON log.projections FROM {READERS};
    DELETE FROM log.writers WHERE types = '{{*}}'"""  # noqa: S608  # written here

_MAY_WRITE: Final = """
    INSERT INTO log.writers AS w VALUES ($1, $2)
        ON CONFLICT (role) DO UPDATE SET types = excluded.types WHERE w.types <> '{*}'"""


async def create_roles(connection: asyncpg.Connection, passwords: Mapping[str, str]) -> None:
    """Make the roles that are missing, and give those that are named their passwords."""
    existing = {row["rolname"] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
    for role in ROLES:
        if role not in existing:
            login = "NOLOGIN" if role == OWNER else "LOGIN"
            await connection.execute(f"CREATE ROLE {role} {login}")  # a fixed word, never input
        if role in passwords:
            quoted = await connection.fetchval("SELECT quote_literal($1::text)", passwords[role])
            await connection.execute(f"ALTER ROLE {role} PASSWORD {quoted}")
    await connection.execute(f"GRANT {READERS} TO {', '.join(SERVICE_ROLES)}")
    await connection.execute(f"GRANT {OWNER} TO CURRENT_USER")


async def grant_writing(connection: asyncpg.Connection, passwords: Mapping[str, str]) -> None:
    """Say which role may append which events. Once services have passwords of their own, nobody may do everything."""
    async with connection.transaction():
        await connection.execute(f"SET LOCAL ROLE {OWNER}")
        strict = bool(set(passwords) & (set(SERVICE_ROLES) - {role_of(Service.API)}))
        if strict:
            await connection.execute(_NO_LONGER_FOR_ALL)
        await connection.executemany(_MAY_WRITE, [(role_of(one), type_names(WRITERS[one])) for one in Service])
