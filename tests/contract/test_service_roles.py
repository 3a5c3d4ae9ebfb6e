"""What the role of each service may not do in the database, and that what it has to do works."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import get_args
from uuid import uuid4

import asyncpg
import pytest

from shared.adapters.migrate import migrate
from shared.adapters.postgres import EventLog
from shared.domain.errors import LogRefused
from shared.domain.events import AnyEvent, HoldReleased, NewEvent, PointPurged
from shared.domain.writers import WORKERS, WRITERS, Service, type_names
from tests.support.builders import alerts, build, new
from tests.support.places import new_place
from tests.support.servers import BOUND_SECONDS, Database, SharedPostgres
from tests.support.users import GuardedDatabase, guarded_database

pytestmark = pytest.mark.timeout(2 * BOUND_SECONDS)

TYPES = sorted(kind.__name__ for kind in get_args(AnyEvent))
NOT_FOR_ALL = {
    "SELECT * FROM access.users": {Service.API, Service.OPERATOR},
    "SELECT password_hash FROM access.users": {Service.API, Service.OPERATOR},
    "SELECT hash FROM access.tokens": {Service.API, Service.OPERATOR},
    "INSERT INTO access.untold (id, event) VALUES (gen_random_uuid(), '{}')": {Service.API, Service.OPERATOR},
    "DELETE FROM access.sessions": {Service.API, Service.OPERATOR},
    "DELETE FROM log.projections": {Service.API},
    "SELECT content FROM log.projections": {Service.API},
    "SELECT log.anchor()": {Service.SNAPSHOTTER},
}
FOR_NOBODY = (
    "SELECT * FROM log.writers",
    "UPDATE log.writers SET types = '{*}'",
    "DELETE FROM log.writers",
    "UPDATE log.events SET version = 7",
    "DELETE FROM log.events",
    "INSERT INTO log.events SELECT * FROM log.events",
    "SET ROLE backup_owner",
    "SET SESSION AUTHORIZATION postgres",
    "ALTER ROLE backup_anon PASSWORD 'x'",
    "GRANT backup_owner TO CURRENT_USER",
    "CREATE OR REPLACE FUNCTION log.append() RETURNS void LANGUAGE sql AS $$ SELECT $$",
    "DROP TABLE log.writers",
    "CREATE TABLE public.mine (x int)",
)
OTHERS = ("backup_retention", "backup_operator", "backup_owner", "postgres")


@pytest.fixture
async def guarded(shared_server: SharedPostgres) -> AsyncIterator[GuardedDatabase]:
    with new_place() as place:
        async with guarded_database(shared_server, Path(place)) as database:
            yield database


async def allowed(connection: asyncpg.Connection, sql: str, *arguments: object) -> bool:
    """Whether a statement is let through; what it did is undone. Only a missing right counts as a no."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(sql, *arguments)
    except asyncpg.InsufficientPrivilegeError:
        return False
    finally:
        await transaction.rollback()
    return True


@pytest.mark.parametrize("service", Service)
async def test_what_a_role_may_not_do_the_database_refuses(guarded: GuardedDatabase, service: Service) -> None:
    append = "SELECT log.append('host-a', NULL, ARRAY[gen_random_uuid()], ARRAY[$1], ARRAY['{}'])"
    async with guarded.connected(service) as connection:
        assert {name for name in TYPES if await allowed(connection, append, name)} == set(type_names(WRITERS[service]))
        assert not await allowed(connection, append, "InventedTomorrow")
        assert not await allowed(connection, append, "*")
        for sql, may in NOT_FOR_ALL.items():
            assert await allowed(connection, sql) == (service in may), sql
        for sql in FOR_NOBODY:
            assert not await allowed(connection, sql), sql
        assert await allowed(connection, "SELECT * FROM log.events")
        assert await allowed(connection, "SELECT * FROM api.jobs")


async def test_one_forbidden_event_keeps_out_the_whole_append(guarded: GuardedDatabase) -> None:
    async with guarded.connected(Service.SNAPSHOTTER) as connection:
        mixed = "SELECT log.append('host-a', NULL, $1, '{AlertRaised,PointPurged}', ARRAY['{}', '{}'])"
        assert not await allowed(connection, mixed, [uuid4(), uuid4()])
        assert await connection.fetchval("SELECT count(*) FROM log.events") == 0


@pytest.mark.parametrize("other", OTHERS)
async def test_to_be_somebody_else_for_a_moment_does_not_help(guarded: GuardedDatabase, other: str) -> None:
    async with guarded.connected(Service.ARCHIVER) as connection:
        for sql in (f"SET ROLE {other}", f"SET SESSION AUTHORIZATION {other}"):
            assert not await allowed(connection, sql), sql
        # Being a member of the readers is the one role that it can take on: it writes nothing.
        await connection.execute("SET ROLE backup_worker")
        assert not await allowed(
            connection, "SELECT log.append('host-a', NULL, $1, '{AlertRaised}', ARRAY['{}'])", [uuid4()]
        )


async def test_a_refusal_says_who_may_not_write_what(guarded: GuardedDatabase) -> None:
    log = EventLog(guarded.dsns[Service.ARCHIVER])
    try:
        with pytest.raises(LogRefused) as caught:
            await log.append("host-a", None, [new(build(PointPurged))])
        assert "backup_archiver may not write events of type PointPurged" in caught.value.message
        assert "POSTGRES_DSN" in caught.value.hint
    finally:
        await log.close()


@pytest.mark.parametrize("service", WORKERS)
async def test_no_worker_lifts_a_hold(guarded: GuardedDatabase, service: Service) -> None:
    log = EventLog(guarded.dsns[service])
    try:
        with pytest.raises(LogRefused, match="may not write"):
            await log.append("host-a", None, [new(build(HoldReleased))])
    finally:
        await log.close()


async def test_who_once_did_everything_only_reads(guarded: GuardedDatabase) -> None:
    log = EventLog(guarded.database.worker_dsn)
    try:
        assert await log.head() == 0
        with pytest.raises(LogRefused, match="permission denied"):
            await log.append("host-a", None, alerts(1))
    finally:
        await log.close()


async def test_without_passwords_of_their_own_one_role_goes_on_doing_everything(
    database: Database, log: EventLog, admin: asyncpg.Connection
) -> None:
    every: list[NewEvent] = [*alerts(1), new(build(PointPurged)), new(build(HoldReleased))]
    await log.append("host-a", None, every)
    await migrate(admin)  # again, as every start does
    await log.append("host-a", 3, alerts(1))
    assert await log.head() == 4


async def test_provisioning_without_passwords_gives_nothing_back(guarded: GuardedDatabase) -> None:
    connection = await asyncpg.connect(guarded.database.admin_dsn)
    try:
        await migrate(connection)
        assert await connection.fetchval("SELECT count(*) FROM log.writers WHERE '*' = ANY (types)") == 0
    finally:
        await connection.close()
    log = EventLog(guarded.database.worker_dsn)
    try:
        with pytest.raises(LogRefused):
            await log.append("host-a", None, alerts(1))
    finally:
        await log.close()
