"""What each role may do on every route there is, and what exists for a user who sees some hosts only."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import nats
import pytest
from litestar import Litestar, get
from litestar.params import FromPath
from litestar.routes import HTTPRoute

from services.api import problems
from services.api.app import make_app
from services.api.askers import Askers
from services.api.chain import Chain
from services.api.guard import Guard
from services.api.live import Live
from services.api.login import Logins
from services.embedded.sshd import free_port
from shared.adapters.access import AccessStore
from shared.adapters.bus_layout import CONTROL, TRIGGERS
from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import Bus
from shared.adapters.passwords import Passwords
from shared.adapters.postgres import EventLog
from shared.adapters.projections import Projections
from shared.config import Settings
from shared.domain.access import ACCESS_STREAM, PERMISSIONS, THIS_MACHINE, Permission, Role, needed
from shared.domain.errors import BackupManagerError
from shared.domain.events import (
    AlertRaised,
    SnapshotFailed,
    TokenMade,
    TokenRevoked,
    UserAdded,
    UserChanged,
    UserRemoved,
)
from shared.domain.names import HostName, host_stream
from shared.runtime.accounts import Accounts
from tests.support.access import PASSWORD, add_user, base_of, browser, running, token_of
from tests.support.builders import RUN, a_run, build, new, some_settings
from tests.support.servers import BOUND_SECONDS, Database, NatsServer

pytestmark = pytest.mark.timeout(BOUND_SECONDS)

PUBLIC_PATHS = {"/login", "/setup/{link}", "/static/{file_path}", "/healthz", "/architecture", "/architecture-dummies"}
FILLED = {"host": "nas", "run": str(RUN), "restore": str(RUN)}
ENDLESS = {"/api/events/stream"}


@pytest.fixture
async def settings(database: Database, nats_server: NatsServer, bus: Bus) -> Settings:
    return some_settings(
        ["nas", "web"],
        nats_url=nats_server.url,
        postgres_dsn=database.worker_dsn,
        api_listen=("127.0.0.1", free_port()),
    )


def every_route(app: Litestar) -> Iterator[tuple[str, str, Permission]]:
    """Method, path and what it needs, of every route that is registered."""
    for route in app.routes:
        assert isinstance(route, HTTPRoute), f"{route.path} is guarded by nobody"
        for method, (handler, _) in route.route_handler_map.items():
            yield method, re.sub(r":\w+}", "}", route.path_format), needed(method, handler.opt)


def an_app(settings: Settings, log: EventLog, bus: Bus) -> Litestar:
    store, clock = AccessStore(settings.postgres_dsn), SystemClock()
    logins = Logins(Accounts(store, log, Passwords(), clock), clock)
    live = Live(log, Projections(settings.postgres_dsn), settings.postgres_dsn, clock)
    given: dict[str, Any] = {"live": live, "chain": Chain(log, clock), "events": log, "bus": bus, "clock": clock}
    return make_app(settings, **given, askers=Askers(store, clock), logins=logins)


async def test_every_route_is_closed_to_whoever_lacks_its_permission(
    settings: Settings, log: EventLog, bus: Bus
) -> None:
    routes = list(every_route(an_app(settings, log, bus)))
    assert len(routes) > 30
    assert {path for _, path, needs in routes if needs is Permission.PUBLIC} == PUBLIC_PATHS
    assert {path for method, path, _ in routes if method == "GET"} >= {"/", "/users", "/api/users", "/api/status"}
    for role in Role:
        await add_user(settings, f"the-{role}", role)
    tokens = {role: await token_of(settings, f"the-{role}") for role in Role}
    async with running(settings), httpx.AsyncClient(base_url=base_of(settings), timeout=20) as client:
        for method, path, needs in routes:
            asked = filled(path)
            if needs is not Permission.PUBLIC:
                stranger = await client.request(method, asked)
                if asked.startswith("/api/"):
                    assert (stranger.status_code, stranger.headers["www-authenticate"]) == (401, "Bearer"), asked
                    assert stranger.headers["content-type"] == "application/problem+json"
                    assert stranger.json()["hint"]
                else:
                    assert stranger.status_code == 303, asked
                    assert stranger.headers["location"].startswith("/login")
                assert "frame-ancestors 'none'" in stranger.headers["content-security-policy"]
            for role, token in tokens.items():
                if needs is not Permission.PUBLIC and needs not in PERMISSIONS[role]:
                    refused = await client.request(method, asked, headers=token)
                    assert (refused.status_code, f"the-{role} may not do this" in refused.text) == (403, True), asked
                elif method == "GET" and path not in ENDLESS:
                    answer = await client.get(asked, headers=token)
                    assert answer.status_code not in {401, 403, 500}, (role, asked)


def filled(path: str) -> str:
    """A path with a host that there is, and with x for whatever else that it asks."""
    return re.sub(r"{(\w+)}", lambda found: FILLED.get(found[1], "x"), path)


async def test_without_users_this_machine_may_look_and_run_alone(settings: Settings, log: EventLog, bus: Bus) -> None:
    routes = list(every_route(an_app(settings, log, bus)))
    async with running(settings), httpx.AsyncClient(base_url=base_of(settings), timeout=20) as client:
        for method, path, needs in routes:
            asked = filled(path)
            if not THIS_MACHINE.may(needs):
                status = 401 if asked.startswith("/api/") else 303
                assert (await client.request(method, asked)).status_code == status, asked
        assert (await client.post("/api/cancel/nas")).status_code == 202
        assert (await client.post("/api/tokens", json={"name": "x"})).status_code == 401
        for headers in ({"host": "backup.lan"}, {"x-forwarded-for": "198.51.100.9"}, {"via": "1.1 proxy"}):
            assert (await client.get("/", headers=headers)).status_code == 403


async def test_to_a_user_with_some_hosts_the_others_do_not_exist(settings: Settings, log: EventLog) -> None:
    await add_user(settings, "carol", Role.OPERATOR, "nas")
    for name in ("nas", "web"):
        run = a_run()
        story = [new(build(AlertRaised, evidence=f"about {name}")), new(build(SnapshotFailed, run=run))]
        await log.append(host_stream(HostName(name)), None, story)
    async with running(settings), browser(settings, "carol") as client:
        for path in ("/api/status", "/api/hosts", "/api/schedule", "/api/events", "/", "/events", "/settings", "/runs"):
            said = (await client.get(path)).text
            assert ("nas" in said, "web" in said) == (True, False), path
            assert not any(word in said for word in ("was added as", "logged in from", '"type":"LoggedIn"')), path
        assert [run["host"] for run in (await client.get("/api/runs", params={"limit": 1})).json()] == ["nas"]
        async with browser(settings, "root") as admin:
            assert "LoggedIn" in (await admin.get("/api/events")).text
            assert "carol logged in from 127.0.0.1" in (await admin.get("/events")).text
        assert (await client.get("/api/hosts/nas")).status_code == 200
        for method, path in (
            ("GET", "/api/hosts/web"),
            ("GET", "/api/hosts/web/snapshots"),
            ("GET", "/hosts/web"),
            ("POST", "/api/cancel/web"),
            ("POST", "/hosts/web/run"),
            ("GET", "/api/hosts/nobody"),
        ):
            answer = await client.request(method, path)
            assert (answer.status_code, "There is no host" in answer.text) == (404, True), path
        assert (await client.post("/api/trigger", json={"hosts": ["nas", "web"]})).status_code == 404
        assert (await client.post("/api/trigger")).json()["hosts"] == ["nas"]
        assert (await last_on(settings, TRIGGERS, "backup.trigger"))["by"] == "carol (api)"
        head = await log.head()
        waited = await client.get("/api/events", params={"after": head, "wait_seconds": 0.2})
        assert waited.json() == []
        assert (await client.get("/api/me")).json()["hosts"] == ["nas"]


async def test_the_guard_keeps_other_hosts_away_from_a_handler_that_would_tell(settings: Settings) -> None:
    @get("/tells/{host:str}")
    async def tells(host: FromPath[str]) -> str:
        return f"all about {host}"

    @get("/tells-all")
    async def tells_all() -> str:
        return "all about all"

    await add_user(settings, "carol", Role.VIEWER, "nas")
    tokens = {name: await token_of(settings, name) for name in ("carol", "root")}
    store, clock = AccessStore(settings.postgres_dsn), SystemClock()
    app: Any = Litestar(
        [tells, tells_all],
        middleware=[Guard(Askers(store, clock), clock)],
        exception_handlers={BackupManagerError: problems.of_ours},
        logging_config=None,
    )
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for name, path, status in (
            ("carol", "/tells/nas", 200),
            ("carol", "/tells/web", 404),
            ("carol", "/tells-all", 403),
            ("root", "/tells/web", 200),
            ("root", "/tells-all", 200),
        ):
            assert (await client.get(path, headers=tokens[name])).status_code == status, (name, path)
    await store.close()


async def last_on(settings: Settings, stream: str, subject: str) -> Any:
    raw = await nats.connect(settings.nats_url)
    try:
        message = await raw.jetstream().get_last_msg(stream, subject)
    finally:
        await raw.close()
    return json.loads(message.data or b"null")


async def test_a_token_acts_in_the_name_of_its_user_until_it_is_revoked(settings: Settings, log: EventLog) -> None:
    await add_user(settings, "alice", Role.OPERATOR)
    async with running(settings), browser(settings, "alice") as client, browser(settings) as program:
        made = (await client.post("/api/tokens", json={"name": "ci"})).json()
        headers = {"authorization": f"Bearer {made['token']}"}
        assert (made["user"], made["token"][:3]) == ("alice", "bm_")
        again = await client.post("/account/tokens", data={"name": "ci"})
        assert (again.status_code, "has a token called ci already" in again.text) == (400, True)
        assert (await program.post("/api/cancel/nas", headers=headers)).status_code == 202
        assert (await last_on(settings, CONTROL, "backup.cancel.nas"))["by"] == "alice (token ci)"
        assert [token["name"] for token in (await program.get("/api/tokens", headers=headers)).json()] == ["ci"]
        for body in ({"name": "x", "user": "root"}, {"name": "x", "user": "nobody"}):
            assert (await program.post("/api/tokens", headers=headers, json=body)).status_code == 403
        assert (await program.delete("/api/tokens/root/ci", headers=headers)).status_code == 403
        assert (await program.post("/api/tokens", headers=headers, json={"name": "<b>"})).status_code == 400
        assert (await client.post("/account/tokens/ci/revoke")).status_code == 303
        assert (await program.get("/api/me", headers=headers)).status_code == 401
        assert (await client.get("/hosts/nas")).text.count("alice") >= 1  # every page says who is logged in
        await client.post("/hosts/nas/cancel")
        assert (await last_on(settings, CONTROL, "backup.cancel.nas"))["by"] == "alice (dashboard)"
    facts = [recorded.event for recorded in await log.read_stream(ACCESS_STREAM)]
    assert TokenMade(user="alice", token="ci", by="alice (api)", address="127.0.0.1") in facts
    assert TokenRevoked(user="alice", token="ci", by="alice (dashboard)", address="127.0.0.1") in facts


async def test_an_admin_manages_users_on_a_page_without_scripts(settings: Settings, log: EventLog) -> None:
    await add_user(settings, "root", Role.ADMIN)
    bob = {"name": "bob", "password": PASSWORD, "role": "operator", "hosts": "nas, web"}
    async with running(settings), browser(settings, "root") as client, browser(settings) as other:
        for wrong, field, says in (
            ({"name": "B o b"}, "name", "is not a user name"),
            ({"name": "root"}, "name", "There is a user root already"),
            ({"password": "short"}, "password", "fewer than 12"),
            ({"hosts": "../etc"}, "hosts", "is not a host name"),
            ({"role": "admin"}, "hosts", "An admin sees every host"),
        ):
            page = await client.post("/users", data=bob | wrong)
            assert page.status_code == 400, wrong
            beside = re.search(rf'id="about-{field}"[^>]*>([^<]*)<', page.text)
            assert beside is not None
            assert says in beside[1]
            assert PASSWORD not in page.text
        assert (await client.post("/users", data=bob)).status_code == 303
        assert "Sees nas, web." in (await client.get("/users")).text
        assert (await other.post("/login", data=bob)).status_code == 303
        assert (await other.get("/api/me")).json()["hosts"] == ["nas", "web"]
        assert (await client.post("/users/bob/change", data={"role": "viewer", "hosts": ""})).status_code == 303
        assert (await other.get("/api/me")).json()["permissions"] == ["view"]
        denied = await other.get("/users")
        assert (denied.status_code, "bob may not do this" in denied.text) == (403, True)
        assert (await client.post("/users/bob/password", data={"password": "four green lamps"})).status_code == 303
        assert (await other.get("/api/me")).status_code == 401
        for path, data in (("remove", None), ("change", {"role": "viewer"})):
            last = await client.post(f"/users/root/{path}", data=data)
            assert (last.status_code, "there would be no admin" in last.text) == (400, True)
        assert (await client.post("/users/nobody/remove")).status_code == 400
        assert (await other.post("/login", data=bob | {"password": "four green lamps"})).status_code == 303
        assert (await client.post("/users/bob/remove")).status_code == 303
        assert (await other.get("/api/me")).status_code == 401
    facts = [recorded.event for recorded in await log.read_stream(ACCESS_STREAM)]
    by: dict[str, Any] = {"by": "root (dashboard)", "address": "127.0.0.1"}
    assert UserAdded(user="bob", role="operator", hosts=("nas", "web"), **by) in facts
    assert UserChanged(user="bob", what="the role", role="viewer", **by) in facts
    assert UserChanged(user="bob", what="the password", **by) in facts
    assert UserRemoved(user="bob", **by) in facts


async def test_a_program_manages_users_through_the_api(settings: Settings) -> None:
    await add_user(settings, "root", Role.ADMIN)
    async with running(settings), browser(settings) as client:
        client.headers.update(await token_of(settings, "root"))
        bob = {"name": "bob", "password": PASSWORD, "role": "viewer", "hosts": ["nas"]}
        made = await client.post("/api/users", json=bob)
        assert (made.status_code, made.json()) == (201, {"name": "bob", "role": "viewer", "hosts": ["nas"]})
        for body, status in (
            (bob, 409),
            (bob | {"name": "x y"}, 400),
            (bob | {"name": "x", "password": "short"}, 400),
            (bob | {"name": "x", "role": "god"}, 400),
            (bob | {"name": "x", "surprise": 1}, 400),
        ):
            refused = await client.post("/api/users", json=body)
            assert (refused.status_code, refused.json()["status"]) == (status, status), body
        assert (await client.patch("/api/users/bob", json={"role": "operator"})).status_code == 200
        assert (await client.put("/api/users/bob/password", json={"password": "x"})).status_code == 400
        assert [user["role"] for user in (await client.get("/api/users")).json()] == ["operator", "admin"]
        assert (await client.delete("/api/users/root")).status_code == 409
        assert (await client.delete("/api/users/bob")).status_code == 200
        assert (await client.delete("/api/users/bob")).status_code == 409
