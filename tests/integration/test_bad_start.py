"""What a service says that cannot start: one line with what is wrong and how to mend it, and no haste to fail again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from services.cli.system import SERVICES
from shared.adapters import process
from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import Bus
from shared.adapters.store import Store
from shared.domain.names import StoreName
from tests.support.places import new_place
from tests.support.servers import Database, NatsServer

REPOSITORY: Final = Path(__file__).parents[2]
BOUND_SECONDS: Final = 60
MISCONFIGURED: Final = 78
WORKERS: Final = ("snapshotter", "archiver", "retention", "restorer")
LEAST_SECONDS: Final = 3


@dataclass(frozen=True)
class Ended:
    """How a service ended: its exit code, its errors, everything it said, and how long it lived."""

    code: int
    errors: list[str]
    said: str
    seconds: float

    @property
    def sentence(self) -> str:
        """The one line with what is wrong."""
        assert len(self.errors) == 1, self.said
        assert "Traceback" not in self.said
        return self.errors[0]


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        (folder / "drive").mkdir()
        Store.create(folder / "drive", StoreName("main"), uuid.uuid4()).close()
        yield folder


@pytest.fixture
def environ(place: Path, database: Database, nats_server: NatsServer, bus: Bus) -> dict[str, str]:
    """What a service needs to run well; each test takes something away."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join((str(REPOSITORY), os.environ.get("PYTHONPATH", ""))).rstrip(os.pathsep),
        "BACKUP_ROOT": str(place / "drive"),
        "BACKUP_DATA": str(place / "data"),
        "NATS_URL": nats_server.url,
        "POSTGRES_DSN": database.worker_dsn,
        "API_LISTEN": "127.0.0.1:1",
    }


async def started(service: str, environ: dict[str, str], *, before: tuple[str, ...] = ()) -> process.Running:
    argv = process.dying_with_parent([*before, sys.executable, "-m", f"services.{service}"])
    return await process.start(argv, env=environ, cwd=Path(environ["BACKUP_ROOT"]).parent)


async def ended(service: str, environ: dict[str, str], *, before: tuple[str, ...] = ()) -> Ended:
    """Start a service and wait until it gives up."""
    clock = SystemClock()
    began = clock.monotonic()
    async with asyncio.timeout(BOUND_SECONDS), await started(service, environ, before=before) as running:
        code = await running.wait()
        said = bytes(running.stderr).decode()
    return Ended(code, errors_in(said), said, clock.monotonic() - began)


def errors_in(said: str) -> list[str]:
    """The sentences of level error and worse; a line that is no object is one, too."""
    found = []
    for line in said.splitlines():
        try:
            told: dict[str, Any] = json.loads(line)
        except ValueError:
            found.append(line)
            continue
        if told["level"] in {"error", "critical"}:
            found.append(told["message"])
    return found


@pytest.mark.parametrize("service", SERVICES)
async def test_a_wrong_password_of_the_log(service: str, environ: dict[str, str]) -> None:
    wrong = environ["POSTGRES_DSN"].replace("worker%20p%40ss", "wrong")
    assert wrong != environ["POSTGRES_DSN"]
    found = await ended(service, environ | {"POSTGRES_DSN": wrong})
    assert found.code in {1, MISCONFIGURED}
    assert "The event log refuses this user" in found.sentence
    assert "POSTGRES_DSN" in found.sentence


@pytest.mark.parametrize("service", SERVICES)
async def test_a_schema_newer_than_the_program(
    service: str, environ: dict[str, str], admin: asyncpg.Connection
) -> None:
    await admin.execute("INSERT INTO public.backup_migrations (number, name, checksum) VALUES (9999, 'new', 'new')")
    found = await ended(service, environ)
    assert found.code == MISCONFIGURED
    assert "newer version of Backup Manager: start that one" in found.sentence


@pytest.mark.parametrize("service", SERVICES)
async def test_a_secret_that_is_missing(service: str, environ: dict[str, str]) -> None:
    found = await ended(service, environ | {"NATS_NKEY_FILE": "/nowhere/nats.nk"})
    assert found.code in {1, MISCONFIGURED}
    assert "/nowhere/nats.nk" in found.sentence
    assert "backup-manager secrets" in found.sentence


@pytest.mark.parametrize("service", ["scheduler", "api"])
async def test_a_password_file_that_is_missing(service: str, environ: dict[str, str]) -> None:
    dsn = "postgresql://backup_worker@127.0.0.1/backup"
    found = await ended(service, environ | {"POSTGRES_DSN": dsn, "POSTGRES_PASSWORD_FILE": "/nowhere/password"})
    assert found.code == MISCONFIGURED
    assert "/nowhere/password cannot be read" in found.sentence


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
@pytest.mark.parametrize("service", WORKERS)
async def test_a_drive_that_cannot_be_written(service: str, environ: dict[str, str]) -> None:
    nobody = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--")
    found = await ended(service, environ, before=nobody)
    assert found.code == MISCONFIGURED
    assert "cannot be written by this user. Change its owner or run as its owner." in found.sentence


@pytest.mark.parametrize("service", WORKERS)
async def test_a_drive_that_is_not_mounted(service: str, environ: dict[str, str], place: Path) -> None:
    (place / "drive/.backup-root.json").unlink()
    found = await ended(service, environ)
    assert found.code == MISCONFIGURED
    assert "Is the drive mounted? A new, empty drive becomes a store by `backup-manager init`." in found.sentence
    assert list((place / "drive").iterdir()) == []


@pytest.mark.parametrize("service", SERVICES)
async def test_settings_that_are_wrong_are_one_line_however_many(service: str, environ: dict[str, str]) -> None:
    found = await ended(service, environ | {"HOSTS": "a..b,c", "TZ": "Nowhere/At_All"})
    assert found.code == MISCONFIGURED
    assert "HOSTS" in found.sentence
    assert "TZ" in found.sentence


async def test_a_service_that_fails_does_not_fail_again_at_once(environ: dict[str, str]) -> None:
    asked = environ | {"BACKUP_LEAST_SECONDS": str(LEAST_SECONDS), "NATS_URL": ""}
    found = await ended("scheduler", asked)
    assert found.code == MISCONFIGURED
    assert "NATS_URL is not set" in found.sentence
    assert found.seconds >= LEAST_SECONDS
    at_once = await ended("scheduler", asked | {"BACKUP_LEAST_SECONDS": "0"})
    assert at_once.code == MISCONFIGURED


async def test_the_command_serves_as_the_module_does(environ: dict[str, str]) -> None:
    argv = [sys.executable, "-m", "services.cli", "serve", "scheduler"]
    done = await process.run(argv, timeout_seconds=BOUND_SECONDS, env=environ | {"NATS_URL": ""})
    assert done.returncode == MISCONFIGURED
    assert errors_in(done.stderr.decode()) == ["NATS_URL is not set; a service needs it to run."]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_who_waits_to_fail_ends_as_soon_as_it_is_told_to(environ: dict[str, str], number: int) -> None:
    asked = environ | {"BACKUP_LEAST_SECONDS": "600", "NATS_URL": ""}
    async with asyncio.timeout(BOUND_SECONDS), await started("scheduler", asked) as running:
        while b"NATS_URL is not set" not in bytes(running.stderr):  # noqa: ASYNC110  # it says it only there
            await asyncio.sleep(0.05)
        running.send_signal(number)
        await running.wait()


@pytest.mark.parametrize("wrong", ["ten", "-1", "601"])
async def test_a_least_time_that_is_none(environ: dict[str, str], wrong: str) -> None:
    found = await ended("scheduler", environ | {"BACKUP_LEAST_SECONDS": wrong})
    assert found.code == MISCONFIGURED
    assert "BACKUP_LEAST_SECONDS" in found.sentence


async def test_a_service_shows_that_it_lives(environ: dict[str, str], place: Path) -> None:
    sign = place / "alive"
    for service in ("scheduler", "retention"):
        sign.unlink(missing_ok=True)
        asked = environ | {"BACKUP_LIFE_FILE": str(sign)}
        async with asyncio.timeout(BOUND_SECONDS), await started(service, asked) as running:
            while not sign.exists():  # noqa: ASYNC110  # the file is the sign
                await asyncio.sleep(0.05)
            running.send_signal(signal.SIGTERM)
            assert await running.wait() == 0
