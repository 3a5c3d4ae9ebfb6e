"""How a database is brought up to date: once, whole or not at all, and never backwards."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from services.embedded.cluster import SUPERUSER
from services.embedded.postgres import EmbeddedPostgres
from shared.adapters import migrate as migrating
from shared.adapters import process
from shared.adapters.migrate import Migration, check_schema, known_migrations, migrate
from shared.adapters.postgres import EventLog
from shared.domain.errors import LogUnavailable, SchemaMismatch
from shared.runtime.provision import provision_log
from shared.runtime.service import EXIT_MISCONFIGURED
from tests.support.builders import alerts
from tests.support.places import new_place
from tests.support.servers import ANON, API, BOUND_SECONDS, PASSWORDS, WORKER, Database, NatsServer, SharedPostgres

pytestmark = pytest.mark.timeout(BOUND_SECONDS)

REPOSITORY = Path(__file__).parents[2]
NAMES = [migration.name for migration in known_migrations()]
NEXT = len(NAMES) + 1


@pytest.fixture
async def empty(shared_server: SharedPostgres) -> AsyncIterator[Database]:
    """A database that was never migrated."""
    async with shared_server.fresh_database(template="template0") as fresh:
        yield fresh


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        connection.terminate()


def with_one_more(monkeypatch: pytest.MonkeyPatch, sql: str) -> str:
    """Give this version another migration; returns its name."""
    more = Migration(NEXT, f"{NEXT:04d}_more.sql", sql)
    monkeypatch.setattr(migrating, "known_migrations", lambda: [*known_migrations(), more])
    return more.name


async def applied_to(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch("SELECT name FROM public.backup_migrations ORDER BY number")
    return [row["name"] for row in rows]


async def exists(connection: asyncpg.Connection, table: str) -> bool:
    return bool(await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", table))


async def test_four_at_once_on_a_server_that_knows_nothing_of_us_apply_everything_once() -> None:
    with new_place() as place:
        async with EmbeddedPostgres(place) as server:
            dsn = server.dsn(SUPERUSER, (place / "postgres" / "password").read_text().strip())
            results = await asyncio.gather(*(provision_log(dsn, PASSWORDS) for _ in range(4)))
            assert sorted(results) == [[], [], [], NAMES]
            for role in (WORKER, API, ANON):
                log = EventLog(server.dsn(role, PASSWORDS[role]))
                assert await log.head() == 0
                await log.close()


async def test_a_second_time_nothing_is_applied_and_nothing_is_lost(database: Database, log: EventLog) -> None:
    await log.append("host-a", None, alerts(2))
    assert await provision_log(database.admin_dsn, PASSWORDS) == []
    assert await log.head() == 2


async def test_the_files_are_numbered_without_gaps() -> None:
    assert [migration.number for migration in known_migrations()] == list(range(1, NEXT))


async def test_a_new_file_is_applied_to_an_old_database(
    database: Database, log: EventLog, admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.append("host-a", None, alerts(2))
    name = with_one_more(monkeypatch, "CREATE TABLE log.more (x int)")
    with pytest.raises(SchemaMismatch, match="older than this program"):
        await check_schema(admin)
    assert await provision_log(database.admin_dsn, {}) == [name]
    assert await exists(admin, "log.more")
    await check_schema(admin)
    assert await log.head() == 2


async def test_the_database_of_a_newer_version_is_refused_and_left_alone(
    database: Database, admin: asyncpg.Connection
) -> None:
    await admin.execute("INSERT INTO public.backup_migrations VALUES ($1, 'newer.sql', 'x')", NEXT)
    with pytest.raises(SchemaMismatch) as caught:
        await migrate(admin)
    assert f"{NEXT:04d}" in caught.value.message
    assert "newer version" in caught.value.hint
    assert await applied_to(admin) == [*NAMES, "newer.sql"]
    await refused_to_a_service(database.worker_dsn, "does not know")


async def test_a_file_that_was_changed_after_it_was_applied_is_refused(
    database: Database, admin: asyncpg.Connection
) -> None:
    await admin.execute("UPDATE public.backup_migrations SET checksum = repeat('0', 64) WHERE number = 1")
    with pytest.raises(SchemaMismatch, match=NAMES[0]):
        await migrate(admin)
    await refused_to_a_service(database.worker_dsn, NAMES[0])


async def refused_to_a_service(dsn: str, reason: str) -> None:
    log = EventLog(dsn)
    for call in (log.head(), log.append("host-a", None, alerts(1)), log.read_stream("host-a")):
        with pytest.raises(SchemaMismatch, match=reason):
            await call
    await log.close()


async def test_a_migration_that_is_interrupted_leaves_nothing_half_and_is_done_by_the_next(
    database: Database, admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = "CREATE TABLE log.half (x int); INSERT INTO log.half VALUES (1); SELECT pg_sleep(600)"
    with_one_more(monkeypatch, slow)
    interrupted = asyncio.create_task(provision_log(database.admin_dsn, {}))
    find = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    while not (pid := await admin.fetchval(find)):  # noqa: ASYNC110  # the server tells nobody
        await asyncio.sleep(0.01)
    await admin.execute("SELECT pg_terminate_backend($1)", pid)
    with pytest.raises(LogUnavailable, match="went away"):
        await interrupted
    assert not await exists(admin, "log.half")
    assert await applied_to(admin) == NAMES
    name = with_one_more(monkeypatch, slow.replace("600", "0"))
    assert await provision_log(database.admin_dsn, {}) == [name]
    assert await admin.fetchval("SELECT count(*) FROM log.half") == 1


async def test_a_migration_that_fails_leaves_nothing_half_and_lets_the_next_one_in(
    database: Database, admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_one_more(monkeypatch, "CREATE TABLE log.half (x int); SELECT 1 / 0")
    async with connected(database.admin_dsn) as failing:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrate(failing)
        # It still holds its connection, and no lock.
        name = with_one_more(monkeypatch, "CREATE TABLE log.half (x int)")
        assert await provision_log(database.admin_dsn, {}) == [name]


async def test_a_migration_that_cannot_be_noted_is_not_applied_either(
    database: Database, admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    unnotable = f"ALTER TABLE public.backup_migrations ADD CONSTRAINT full_up CHECK (number < {NEXT})"
    with_one_more(monkeypatch, f"CREATE TABLE log.half (x int); {unnotable}")
    async with connected(database.admin_dsn) as failing:
        with pytest.raises(asyncpg.CheckViolationError):
            await migrate(failing)
    assert not await exists(admin, "log.half")
    assert await applied_to(admin) == NAMES


async def test_one_that_waits_for_another_too_long_says_so(
    database: Database, admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrating, "WAIT_SECONDS", 0.3)
    await admin.execute("SELECT pg_advisory_lock($1)", migrating.LOCK_KEY)
    with pytest.raises(LogUnavailable, match="Another process"):
        await provision_log(database.admin_dsn, {})


async def test_a_reader_of_an_unmigrated_database_is_told_what_to_run(empty: Database) -> None:
    log = EventLog(empty.worker_dsn)
    for call in (log.head(), log.append("host-a", None, alerts(1))):
        with pytest.raises(SchemaMismatch) as caught:
            await call
        assert "backup-manager provision" in caught.value.hint
    await log.close()


async def test_a_service_ends_on_an_unmigrated_database_with_the_hint(
    empty: Database, nats_server: NatsServer, tmp_path: Path
) -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY),
        "BACKUP_ROOT": str(tmp_path / "drive"),
        "BACKUP_DATA": str(tmp_path / "data"),
        "HOSTS": "nas",
        "NATS_URL": nats_server.url,
        "POSTGRES_DSN": empty.worker_dsn,
    }
    argv = [sys.executable, "-m", "services.scheduler"]
    ended = await process.run(argv, timeout_seconds=BOUND_SECONDS, env=environ, cwd=tmp_path)
    assert ended.returncode == EXIT_MISCONFIGURED, ended.said
    assert "backup-manager provision" in ended.said
