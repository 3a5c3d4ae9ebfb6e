"""An installation from before the services had users of their own starts again, with everything that was in it."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from services.cli.demo_home import build_home
from services.embedded.directory import make_directory, secret
from services.embedded.nats import EmbeddedNats
from services.embedded.postgres import EmbeddedPostgres
from shared.adapters.jetstream import Bus
from shared.adapters.migrate import known_migrations
from shared.domain.events import AlertRaised, BackupRequested, SnapshotCompleted
from shared.domain.messages import Trigger
from tests.support.builders import alerts
from tests.support.installation import installation, of_type
from tests.support.places import new_place
from tests.support.servers import BOUND_SECONDS

pytestmark = pytest.mark.timeout(3 * BOUND_SECONDS)

HOST = "web"
BEFORE = [migration for migration in known_migrations() if migration.number < 7]
ROLES = ("backup_worker", "backup_api", "backup_anon")
NOTED = "CREATE TABLE public.backup_migrations (number int PRIMARY KEY, name text NOT NULL, checksum text NOT NULL)"


async def leave_as_it_was(data: Path) -> str:
    """Make a data folder as the version before left it; returns the password that its services shared."""
    make_directory(data)
    make_directory(data / "secrets", 0o700)
    passwords = {role: secret(data / "secrets" / role) for role in ROLES}
    async with EmbeddedPostgres(data) as postgres, EmbeddedNats(data) as server:
        connection = await asyncpg.connect(postgres.backup_admin_dsn)
        await connection.execute(f"CREATE ROLE backup_owner; {NOTED}; GRANT backup_owner TO CURRENT_USER")
        for role, password in passwords.items():
            await connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
        for one in BEFORE:
            await connection.execute(one.sql)
            row = (one.number, one.name, one.checksum)
            await connection.execute("INSERT INTO public.backup_migrations VALUES ($1, $2, $3)", *row)
        append = "SELECT log.append('host-web', NULL, $1, ARRAY['AlertRaised'], ARRAY[$2])"
        line = '{"type":"AlertRaised","kind":"foreign","evidence":"before"}'
        await connection.execute(append, [alerts(1)[0].id], line)
        await connection.close()
        bus = await Bus.connect(server.url, "before")
        await bus.provision(["main"], 6)
        await bus.publish_trigger(Trigger((HOST,), by="somebody before"))
        await bus.close()
    return passwords["backup_worker"]


async def test_it_goes_on_with_a_user_for_each_service_and_nothing_is_lost() -> None:
    with new_place() as place:
        shared_password = await leave_as_it_was(place / "data")
        async with installation(place, [HOST]) as system:
            build_home(system.source(HOST), files=100)
            await system.start()
            events = await system.wait_for(
                lambda events: (
                    bool(of_type(events, SnapshotCompleted))
                    and any("somebody before" in str(one.event) for one in of_type(events, BackupRequested))
                ),
                what="A snapshot, and what was asked for before",
            )
            assert isinstance(events[0].event, AlertRaised)
            await system.cli("audit")
            assert system.connections is not None
            assert "backup_operator" in system.connections.postgres_dsn
            before = system.connections.postgres_dsn.partition("//")[2].partition("@")[0]
            with pytest.raises(asyncpg.InvalidPasswordError):
                await asyncpg.connect(
                    system.connections.postgres_dsn.replace(before, f"backup_worker:{shared_password}")
                )
            secrets = {path.name for path in (place / "data/secrets").iterdir()}
            assert not {*ROLES, "token"} & secrets
            assert "anon" in secrets
            await system.stop()
            await system.start()  # and again, as any installation
            await system.one_more_run(HOST)
