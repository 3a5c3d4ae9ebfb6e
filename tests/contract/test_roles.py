"""What each role may not do, and what a foreign program reads through the views."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest

from shared.adapters.postgres import EventLog
from shared.domain.errors import LogRefused
from shared.domain.events import (
    AnyEvent,
    NewEvent,
    Quality,
    SnapshotAbandoned,
    SnapshotCompleted,
    SnapshotDiscovered,
    SnapshotFailed,
    SnapshotStarted,
)
from shared.domain.names import snapshot_name
from tests.support.builders import SLOT, a_run, a_snapshot_story, alerts, build, new, one_of_each
from tests.support.servers import ANON, API, WORKER, Database

INSERT = (
    "INSERT INTO log.events (position, version, recorded_at, id, stream, type, data, hash)"
    " VALUES (9, 9, now(), gen_random_uuid(), 'host-a', 'Forged', '{}', sha256('x'))"
)
REFUSED_TO_EVERY_ROLE = (
    "UPDATE log.events SET version = 7",
    "DELETE FROM log.events",
    "TRUNCATE log.events",
    "TRUNCATE log.events CASCADE",
    INSERT,
    "INSERT INTO log.gate DEFAULT VALUES",
    "INSERT INTO log.anchors (position, hash) VALUES (1, sha256('x'))",
    "DELETE FROM log.anchors",
    "COPY log.events FROM STDIN",
    "MERGE INTO log.events e USING (SELECT 1) o ON true WHEN MATCHED THEN DELETE",
    "SELECT * FROM log.events FOR UPDATE",
    "DROP TABLE log.events",
    "DROP TABLE log.gate",
    "DROP SCHEMA log CASCADE",
    "DROP FUNCTION log.append",
    "ALTER TABLE log.events ADD COLUMN more int",
    "ALTER TABLE log.events OWNER TO CURRENT_USER",
    "ALTER TABLE log.events DISABLE TRIGGER ALL",
    "ALTER TABLE log.events DISABLE TRIGGER no_rewrite",
    "DROP TRIGGER no_rewrite ON log.events",
    "ALTER FUNCTION log.append SECURITY INVOKER",
    "SET session_replication_role = replica",
    "CREATE OR REPLACE FUNCTION log.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
    "CREATE TRIGGER mine BEFORE INSERT ON log.events FOR EACH ROW EXECUTE FUNCTION log.refuse()",
    "CREATE RULE mine AS ON INSERT TO log.events DO INSTEAD NOTHING",
    "LOCK TABLE log.gate IN EXCLUSIVE MODE",
    "LOCK TABLE log.gate IN ACCESS SHARE MODE",
    "LOCK TABLE log.events IN EXCLUSIVE MODE",
    "CREATE TABLE public.mine (x int)",
    "CREATE TABLE log.mine (x int)",
    "CREATE TABLE api.mine (x int)",
    "CREATE SCHEMA mine",
    "CREATE FUNCTION public.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT $1 $$",
    "CREATE ROLE mine",
    "ALTER ROLE backup_owner LOGIN",
    "SET ROLE backup_owner",
    "SET ROLE postgres",
    "GRANT backup_owner TO CURRENT_USER",
    "UPDATE public.backup_migrations SET checksum = ''",
    "DELETE FROM public.backup_migrations",
    "INSERT INTO public.backup_migrations (number, name, checksum) VALUES (99, '', '')",
    "DROP VIEW api.jobs",
    "DELETE FROM api.snapshots",
    "SELECT pg_read_file('/etc/passwd')",
    "COPY log.events TO PROGRAM 'cat'",
    "SELECT rolpassword FROM pg_authid",
)

ONLY_WARNED_ABOUT = ("GRANT INSERT ON log.events TO PUBLIC", "REVOKE SELECT ON log.events FROM backup_api")


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(dsn, command_timeout=10)
    try:
        yield connection
    finally:
        await connection.close()


def address(database: Database, role: str) -> str:
    return {WORKER: database.worker_dsn, API: database.api_dsn, ANON: database.anon_dsn}[role]


async def fingerprint(admin: asyncpg.Connection) -> object:
    """Everything that a role could have changed."""
    return await admin.fetchval("""
        SELECT (SELECT string_agg(e::text, '|' ORDER BY position) FROM log.events e)
            || (SELECT string_agg(c.oid || c.relname || c.relowner || coalesce(c.relacl::text, ''), '|' ORDER BY c.oid)
                  FROM pg_class c WHERE relnamespace::regnamespace::text IN ('log', 'api', 'public'))
            || (SELECT string_agg(tgname || tgenabled::text, '|' ORDER BY oid) FROM pg_trigger)
            || (SELECT string_agg(p.oid || prosrc || prosecdef, '|' ORDER BY p.oid) FROM pg_proc p
                 WHERE pronamespace = 'log'::regnamespace)
            || (SELECT string_agg(rolname || rolcanlogin || rolsuper, '|' ORDER BY oid) FROM pg_roles)
            || (SELECT string_agg(m::text, '|') FROM public.backup_migrations m)""")


async def refusal(connection: asyncpg.Connection, sql: str) -> str:
    """What the server says to a statement."""
    try:
        async with connection.transaction():
            await connection.execute(sql)
    except asyncpg.PostgresError as error:
        return f"{error}"
    return "done"


@pytest.mark.parametrize("role", [WORKER, API, ANON])
async def test_no_role_can_change_the_log_or_what_guards_it(
    role: str, database: Database, log: EventLog, admin: asyncpg.Connection
) -> None:
    await log.append("host-a", None, alerts(3))
    before = await fingerprint(admin)
    async with connected(address(database, role)) as connection:
        for sql in ONLY_WARNED_ABOUT:
            await connection.execute(sql)
        outcomes = {sql: await refusal(connection, sql) for sql in REFUSED_TO_EVERY_ROLE}
    assert {sql: said for sql, said in outcomes.items() if "denied" not in said and "must be" not in said} == {}
    assert await fingerprint(admin) == before


async def test_backup_anon_cannot_append(database: Database, log: EventLog) -> None:
    anon = EventLog(database.anon_dsn)
    try:
        with pytest.raises(LogRefused, match="permission denied"):
            await anon.append("host-a", None, alerts(1))
        assert await anon.head() == 0
    finally:
        await anon.close()
    assert await log.head() == 0


async def test_worker_and_api_append_and_read(database: Database, log: EventLog) -> None:
    await log.append("host-a", None, alerts(1))
    api = EventLog(database.api_dsn)
    try:
        await api.append("host-a", 1, alerts(1))
        assert [event.version for event in await api.read_stream("host-a")] == [1, 2]
    finally:
        await api.close()


async def test_a_temporary_table_of_a_workers_session_does_not_deceive_append(
    database: Database, admin: asyncpg.Connection
) -> None:
    async with connected(database.worker_dsn) as connection:
        await connection.execute("CREATE TEMPORARY TABLE events (LIKE log.events)")
        await connection.execute("CREATE FUNCTION pg_temp.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT $1 $$")
        await connection.execute("SET search_path = pg_temp, log")
        await connection.execute("SELECT log.append('host-a', NULL, $1::uuid[], '{Noted}', ARRAY['{}'])", [uuid4()])
        assert await connection.fetchval("SELECT count(*) FROM pg_temp.events") == 0
    row = await admin.fetchrow(
        "SELECT hash, sha256(decode(repeat('00', 32), 'hex') || log.canonical(position, stream, version, id, type,"
        " log.microseconds(recorded_at), data::text, meta::text)) AS right_hash FROM log.events"
    )
    assert row is not None
    assert row["hash"] == row["right_hash"]


async def test_append_runs_nothing_of_its_callers_with_its_owners_rights(
    database: Database, log: EventLog, admin: asyncpg.Connection
) -> None:
    async with connected(database.worker_dsn) as connection:
        # A type of the caller's, found before the real one, would run his function as the owner of the log.
        await connection.execute("""
            CREATE FUNCTION pg_temp.noted(text) RETURNS boolean LANGUAGE plpgsql AS $$
              BEGIN PERFORM set_config('test.ran_as', current_user, false); RETURN true; END $$;
            SET search_path = pg_temp, pg_catalog, log""")
        for name in ("timestamptz", "bytea", "json", "text"):
            await connection.execute(
                f"CREATE DOMAIN pg_temp.{name} AS pg_catalog.{name} CHECK (pg_temp.noted(VALUE::pg_catalog.text))"
            )
        await connection.execute(
            "SELECT first_position FROM log.append('host-a', NULL, ARRAY[gen_random_uuid()], '{Noted}', ARRAY['{}'])"
        )
        await connection.execute("RESET search_path")
        assert await connection.fetchval("SELECT current_setting('test.ran_as', true)") != "backup_owner"
    assert await log.head() == 1


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE log.events SET version = version + 1",
        "DELETE FROM log.events WHERE position = 2",
        "TRUNCATE log.events CASCADE",
        "UPDATE log.anchors SET hash = sha256('x')",
        "DELETE FROM log.anchors",
        "TRUNCATE log.anchors",
    ],
)
async def test_even_the_superuser_is_stopped_until_he_switches_the_triggers_off(
    sql: str, log: EventLog, admin: asyncpg.Connection
) -> None:
    await log.append("host-a", None, alerts(3))
    await admin.execute("INSERT INTO log.anchors (position, hash) SELECT position, hash FROM log.events LIMIT 1")
    with pytest.raises(asyncpg.PostgresError, match="append-only"):
        await admin.execute(sql)
    assert await log.head() == 3
    assert len(await log.anchors()) == 1


async def test_the_view_of_jobs_shows_every_step_of_every_run(database: Database, log: EventLog) -> None:
    first, second, third = (SLOT + timedelta(hours=hours) for hours in range(3))
    runs = [a_run() for _ in range(3)]
    history: dict[str, list[AnyEvent]] = {
        "host-a": [
            build(SnapshotStarted, run=runs[0], slot=first),
            build(SnapshotCompleted, run=runs[0], slot=first, snapshot=snapshot_name(first)),
            build(SnapshotStarted, run=runs[1], slot=second),
            build(SnapshotFailed, run=runs[1], slot=second),
        ],
        "host-b": [
            build(SnapshotStarted, run=runs[2], slot=third),
            build(SnapshotAbandoned, run=runs[2], slot=third),
        ],
    }
    for stream, events in history.items():
        await log.append(stream, None, [new(event) for event in events])
    async with connected(database.anon_dsn) as anon:
        jobs = await anon.fetch("SELECT host, job, run, slot, outcome, position FROM api.jobs ORDER BY position")
        newest = await anon.fetch("SELECT host, job, run, slot, outcome FROM api.job_hosts ORDER BY host")
    assert [tuple(row) for row in jobs] == [
        ("a", "snapshot", str(runs[0]), first, "started", 1),
        ("a", "snapshot", str(runs[0]), first, "completed", 2),
        ("a", "snapshot", str(runs[1]), second, "started", 3),
        ("a", "snapshot", str(runs[1]), second, "failed", 4),
        ("b", "snapshot", str(runs[2]), third, "started", 5),
        ("b", "snapshot", str(runs[2]), third, "abandoned", 6),
    ]
    assert [tuple(row) for row in newest] == [
        ("a", "snapshot", str(runs[1]), second, "failed"),
        ("b", "snapshot", str(runs[2]), third, "abandoned"),
    ]


async def test_the_view_of_snapshots_shows_those_that_were_taken_and_those_that_were_found(
    database: Database, log: EventLog
) -> None:
    later = SLOT + timedelta(hours=1, seconds=7)
    await log.append("host-a", None, a_snapshot_story(SLOT, quality=Quality.DEGRADED, files=5, size_bytes=2**40))
    found = build(SnapshotDiscovered, slot=later, snapshot=snapshot_name(later), files=6, size_bytes=7)
    await log.append("host-b", None, [new(found)])
    async with connected(database.anon_dsn) as anon:
        rows = await anon.fetch(
            "SELECT host, snapshot, slot, quality, files, size_bytes, transferred_bytes, position"
            " FROM api.snapshots ORDER BY position"
        )
    assert [tuple(row) for row in rows] == [
        ("a", "2026-03-06_0800", SLOT, "degraded", 5, 2**40, 10_000, 3),
        ("b", "2026-03-06_090007", later, "complete", 6, 7, None, 4),
    ]


async def test_the_views_can_be_read_by_every_role_whatever_is_in_the_log(database: Database, log: EventLog) -> None:
    for stream in ("host-a", "settings", "refused", "store-main"):
        await log.append(stream, None, [NewEvent(uuid4(), event) for event in one_of_each()])
    for role in (WORKER, API, ANON):
        async with connected(address(database, role)) as connection:
            for view in ("jobs", "job_hosts", "snapshots"):
                hosts = {row["host"] for row in await connection.fetch(f"SELECT host FROM api.{view}")}  # noqa: S608  # one of three words
                assert hosts == {"a"}, view
