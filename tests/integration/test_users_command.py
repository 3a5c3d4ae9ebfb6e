"""Users by the command line, on a running database."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

from shared.adapters import process
from shared.adapters.access import AccessStore
from shared.adapters.clock import SystemClock
from shared.adapters.postgres import EventLog
from shared.adapters.secret import hash_of
from shared.domain.access import ACCESS_STREAM
from shared.domain.events import SetupLinkMade, TokenMade, TokenRevoked, UserAdded, UserChanged, UserRemoved
from shared.runtime.accounts import LINK_LIFETIME
from tests.support.access import PASSWORD
from tests.support.servers import BOUND_SECONDS, Database

pytestmark = pytest.mark.timeout(2 * BOUND_SECONDS)

REPOSITORY = Path(__file__).parents[2]


class Commands:
    """`backup-manager users …` with a password on its standard input."""

    def __init__(self, database: Database, place: Path) -> None:
        (place / "test.env").write_text(f"BACKUP_ROOT={place}\nHOSTS=nas,web\n")
        self._place = place
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(place),
            "PYTHONPATH": str(REPOSITORY),
            "BACKUP_ENV_FILE": str(place / "test.env"),
            "POSTGRES_DSN": database.worker_dsn,
            "NATS_URL": "nats://127.0.0.1:1",
        }

    async def __call__(self, *words: str, typed: str = PASSWORD, code: int = 0) -> str:
        (self._place / "typed").write_text(f"{typed}\n")
        # The shell only redirects; process.run gives its children no input.
        argv = ["sh", "-c", 'exec "$@" < typed', "sh", sys.executable, "-m", "services.cli", "users", *words]
        done = await process.run(argv, timeout_seconds=BOUND_SECONDS, env=self._env, cwd=self._place)
        said = done.stdout.decode() + done.stderr.decode()
        assert done.returncode == code, said
        assert PASSWORD not in said
        return said


@pytest.fixture
def users(database: Database, tmp_path: Path) -> Commands:
    return Commands(database, tmp_path)


async def test_users_are_added_shown_changed_and_removed(users: Commands, log: EventLog) -> None:
    assert "No users yet" in await users("list")
    assert "The first user must be an admin" in await users("add", "bob", "--role", "viewer", code=1)
    await users("add", "alice", "--role", "admin")
    await users("add", "bob", "--role", "operator", "--host", "nas")
    assert "There is a user bob already" in await users("add", "bob", "--role", "viewer", code=1)
    assert "There is no host 'mail'" in await users("add", "carol", "--role", "viewer", "--host", "mail", code=2)
    assert "fewer than 12" in await users("password", "bob", typed="short", code=1)
    await users("password", "bob")
    token = (await users("token", "bob", "--name", "ci")).strip()
    assert re.fullmatch(r"bm_[\w-]{43}", token)
    bob = json.loads(await users("list", "--json"))[1]
    assert bob["user"] == {"name": "bob", "role": "operator", "hosts": ["nas"]}
    assert [one["name"] for one in bob["tokens"]] == ["ci"]
    await users("revoke", "bob", "ci")
    assert "has no token called ci" in await users("revoke", "bob", "ci", code=1)
    await users("remove", "bob")
    assert "there would be no admin" in await users("remove", "alice", code=1)
    facts = [recorded.event for recorded in await log.read_stream(ACCESS_STREAM)]
    assert [type(fact) for fact in facts] == [UserAdded, UserAdded, UserChanged, TokenMade, TokenRevoked, UserRemoved]
    assert all(getattr(fact, "by", "") for fact in facts)
    assert token not in str(facts)


async def test_a_set_up_link_can_be_made_again(users: Commands, database: Database, log: EventLog) -> None:
    link = re.search(r"http://127\.0\.0\.1:8085/setup/(\S+)", await users("setup-link"))
    assert link is not None
    (told,) = [recorded.event for recorded in await log.read_stream(ACCESS_STREAM)]
    assert isinstance(told, SetupLinkMade)
    assert link[1] not in str(told)
    store = AccessStore(database.worker_dsn)
    try:
        now = SystemClock().now()
        assert await store.link_holds(hash_of(link[1]), now)
        assert not await store.link_holds(hash_of(link[1]), now + LINK_LIFETIME)
    finally:
        await store.close()
