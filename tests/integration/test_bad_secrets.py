"""A service with a wrong key or password ends with one line that says what is wrong and how to mend it."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.adapters import process
from shared.adapters.nkeys import new_seed
from shared.adapters.store import Store
from shared.domain.names import StoreName
from shared.domain.writers import Service
from shared.runtime.service import EXIT_MISCONFIGURED
from tests.support.places import new_place
from tests.support.servers import BOUND_SECONDS, SharedPostgres
from tests.support.users import GuardedBus, GuardedDatabase, guarded_bus, guarded_database

pytestmark = pytest.mark.timeout(2 * BOUND_SECONDS)
REPOSITORY = Path(__file__).parents[2]


class Servers:
    """A bus and a database with users, and the environment of a service that is right in everything."""

    def __init__(self, place: Path, bus: GuardedBus, database: GuardedDatabase) -> None:
        self.place, self.bus, self.database = place, bus, database

    def environ(self, service: Service, **changed: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.place),
            "PYTHONPATH": str(REPOSITORY),
            "BACKUP_ROOT": str(self.place / "drive"),
            "BACKUP_DATA": str(self.place / "data"),
            "HOSTS": "nas",
            "NATS_URL": self.bus.url,
            "NATS_NKEY_FILE": str(self.bus.secrets.key(service)),
            "POSTGRES_DSN": self.database.dsns[service],
            **changed,
        }

    async def ended(self, service: Service, **changed: str) -> process.Finished:
        argv = [sys.executable, "-m", f"services.{service}"]
        return await process.run(
            argv, timeout_seconds=BOUND_SECONDS, env=self.environ(service, **changed), cwd=self.place
        )


@pytest.fixture
async def servers(shared_server: SharedPostgres) -> AsyncIterator[Servers]:
    with new_place() as place:
        (place / "drive").mkdir()
        Store.create(place / "drive", StoreName("main"), uuid.uuid4()).close()
        async with guarded_bus(place / "bus") as bus, guarded_database(shared_server, place / "log") as database:
            yield Servers(place, bus, database)


def last_line(done: process.Finished) -> str:
    lines = (done.stdout + done.stderr).decode().strip().splitlines()
    assert not any("Traceback" in line for line in lines), done.said
    return lines[-1]


async def test_each_kind_of_wrong_secret_is_one_line_and_an_exit_code(servers: Servers, tmp_path: Path) -> None:
    missing, senseless, unknown = tmp_path / "missing", tmp_path / "senseless", tmp_path / "unknown"
    senseless.write_text("hunter2\n")
    unknown.write_text(new_seed())
    dsn = servers.database.dsns[Service.SCHEDULER]
    no_password = dsn.replace(dsn.partition("//")[2].partition("@")[0], "backup_scheduler")
    cases = {
        "cannot be read: No such file": {"NATS_NKEY_FILE": str(missing)},
        "holds no key for the bus": {"NATS_NKEY_FILE": str(senseless)},
        "does not know the key of scheduler": {"NATS_NKEY_FILE": str(unknown)},
        "without a key": {"NATS_NKEY_FILE": ""},
        "NATS_NKEY_FILE is 'relative'": {"NATS_NKEY_FILE": "relative"},
        "refuses this user": {"POSTGRES_DSN": no_password, "POSTGRES_PASSWORD_FILE": str(senseless)},
        "missing cannot be read": {"POSTGRES_DSN": no_password, "POSTGRES_PASSWORD_FILE": str(missing)},
    }
    for says, changed in cases.items():
        done = await servers.ended(Service.SCHEDULER, **changed)
        assert done.returncode in {1, EXIT_MISCONFIGURED}, (says, done.said)
        assert says in last_line(done), done.said
        assert "hunter2" not in done.said


async def test_a_worker_with_the_key_of_another_ends_with_the_subject_it_may_not_use(servers: Servers) -> None:
    done = await servers.ended(Service.ARCHIVER, NATS_NKEY_FILE=str(servers.bus.secrets.key(Service.RETENTION)))
    assert done.returncode == 1, done.said
    assert "forbids archiver to" in last_line(done)
    assert "this service's own key" in last_line(done)


async def test_a_trigger_with_a_workers_key_says_what_is_forbidden(servers: Servers) -> None:
    environ = servers.environ(Service.OPERATOR, NATS_NKEY_FILE=str(servers.bus.secrets.key(Service.ARCHIVER)))
    argv = [sys.executable, "-m", "services.cli", "trigger"]
    done = await process.run(argv, timeout_seconds=BOUND_SECONDS, env=environ, cwd=servers.place)
    assert done.returncode == 1
    assert "forbids operator to" in done.said
