"""Plain numbered SQL files, applied once each, in order, under a lock, each in its own transaction."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from importlib import resources
from typing import Final

import asyncpg

from shared.adapters.roles import create_roles, grant_writing
from shared.domain.errors import LogUnavailable, SchemaMismatch

LOCK_KEY: Final = 7_215_083_441
"""Any number that nobody else in the database uses."""

WAIT_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of its text: an applied file never changes."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def known_migrations() -> list[Migration]:
    """The files of this version, by number."""
    folder = resources.files("shared.adapters") / "migrations"
    files = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    return sorted(
        (Migration(int(file.name[:4]), file.name, file.read_text(encoding="utf-8")) for file in files),
        key=lambda migration: migration.number,
    )


async def migrate(connection: asyncpg.Connection, passwords: dict[str, str] | None = None) -> list[str]:
    """Bring the database up to date; returns the names of the files that were applied.

    `passwords` maps roles to the passwords they get; with one for a service, each may append its own events only.
    Needs a role that may create roles and schemas.
    Raises SchemaMismatch when the database was made by a newer version or by other files, and LogUnavailable when
    somebody else is migrating it and does not come to an end.
    """
    await _lock(connection)
    try:
        await create_roles(connection, passwords or {})
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS public.backup_migrations ("
            "number int PRIMARY KEY, name text NOT NULL, checksum text NOT NULL,"
            " applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
        )
        await connection.execute("GRANT SELECT ON public.backup_migrations TO backup_worker, backup_api, backup_anon")
        pending = pending_migrations(known_migrations(), await _applied(connection))
        for migration in pending:
            await _apply(connection, migration)
        await grant_writing(connection, passwords or {})
        return [migration.name for migration in pending]
    finally:
        if not connection.is_closed():  # the lock of a lost connection is gone with it
            await connection.execute("SELECT pg_advisory_unlock($1)", LOCK_KEY)


async def check_schema(connection: asyncpg.Connection) -> None:
    """Make sure that the database has exactly this version's schema. Raises SchemaMismatch."""
    try:
        applied = await _applied(connection)
    except asyncpg.UndefinedTableError:
        applied = {}
    if pending_migrations(known_migrations(), applied):
        raise SchemaMismatch(
            "The database schema is older than this program.",
            "Run `backup-manager provision`, then start again.",
        )


def pending_migrations(known: list[Migration], applied: dict[int, str]) -> list[Migration]:
    """The files still to be applied. `applied` maps numbers to checksums. Raises SchemaMismatch."""
    by_number = {migration.number: migration for migration in known}
    for number, checksum in sorted(applied.items()):
        migration = by_number.get(number)
        if migration is None:
            raise SchemaMismatch(
                f"The database has migration {number:04d}, which this version does not know.",
                "It was made by a newer version of Backup Manager: start that one; this one never goes backwards.",
            )
        if migration.checksum != checksum:
            raise SchemaMismatch(
                f"Migration {migration.name} was applied with another text than this version has.",
                "Use the version that made this database, or restore the file.",
            )
    newest = max(applied, default=0)
    return [migration for migration in known if migration.number > newest]


async def _lock(connection: asyncpg.Connection) -> None:
    # A blocking lock would deadlock with CREATE INDEX CONCURRENTLY in a migration that runs elsewhere.
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK_KEY):  # noqa: ASYNC110  # it lives in another process
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise LogUnavailable(
            f"Another process has been migrating this database for {WAIT_SECONDS:g} s.", "Is it still running?"
        ) from error


async def _applied(connection: asyncpg.Connection) -> dict[int, str]:
    rows = await connection.fetch("SELECT number, checksum FROM public.backup_migrations")
    return {row["number"]: row["checksum"] for row in rows}


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.sql)
        await connection.execute(
            "INSERT INTO public.backup_migrations (number, name, checksum) VALUES ($1, $2, $3)",
            migration.number,
            migration.name,
            migration.checksum,
        )
