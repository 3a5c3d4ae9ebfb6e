"""Who gets in, how, and what of it is told: over real HTTP, with the real database."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import httpx
import msgspec
import pytest

from services.api import watched
from services.embedded.sshd import free_port
from shared.adapters.access import ABSOLUTE, IDLE, LinkRefused
from shared.adapters.jetstream import Bus
from shared.adapters.postgres import EventLog
from shared.config import Settings
from shared.domain.access import ACCESS_STREAM, Role
from shared.domain.errors import AccessRefused
from shared.domain.events import Event, LoggedIn, LoggedOut, LoginRefused, UserAdded
from shared.domain.login_limits import FREE_TRIES, MOST_TOLD
from shared.runtime.accounts import Doer
from tests.support.access import PASSWORD, accounts_of, add_user, base_of, browser, running, token_of
from tests.support.builders import some_settings
from tests.support.servers import BOUND_SECONDS, Database, NatsServer, SharedPostgres

pytestmark = pytest.mark.timeout(BOUND_SECONDS)

LINK = re.compile(r"http://127\.0\.0\.1:\d+(/setup/(\S+))")


@pytest.fixture
async def settings(database: Database, nats_server: NatsServer, bus: Bus) -> Settings:
    return some_settings(
        ["nas", "web"],
        nats_url=nats_server.url,
        postgres_dsn=database.worker_dsn,
        api_listen=("127.0.0.1", free_port()),
    )


@pytest.fixture
async def admin_of_database(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database.admin_dsn)
    yield connection
    connection.terminate()


async def told(log: EventLog) -> list[Event]:
    return [recorded.event for recorded in await log.read_stream(ACCESS_STREAM)]


def setup_link(caplog: pytest.LogCaptureFixture) -> str:
    return [found[1] for record in caplog.records if (found := LINK.search(record.getMessage()))][-1]


async def test_the_set_up_link_makes_one_admin_and_holds_once(
    settings: Settings, log: EventLog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running(settings), browser(settings) as first, browser(settings) as second:
        link = setup_link(caplog)
        assert (await first.get("/api/status")).status_code == 200  # without users this machine may look
        assert "There are no users yet" in (await first.get("/login")).text
        assert (await first.get("/account", follow_redirects=False)).headers["location"] == "/login?next=%2Faccount"
        form = await first.get(link)
        assert (form.status_code, 'autocomplete="new-password"' in form.text) == (200, True)
        new = {"name": "alice", "password": PASSWORD, "again": PASSWORD}
        for wrong, says in (
            ({"password": "short", "again": "short"}, "fewer than 12"),
            ({"again": "something else"}, "differ"),
            ({"name": "<b>"}, "is not a user name"),
        ):
            refused = await first.post(link, data=new | wrong)
            assert (refused.status_code, says in refused.text) == (400, True), wrong
            assert "<b>" not in refused.text
        made = await first.post(link, data=new)
        assert (made.status_code, made.headers["location"]) == (303, "/")
        assert (await first.get("/api/me")).json()["user"] == "alice"
        for client in (first, second):
            assert (await client.get(link)).status_code == 404
            assert (await client.post(link, data=new | {"name": "mallory"})).status_code == 404
        assert (await second.get("/api/status")).status_code == 401
    assert await told(log) == [
        UserAdded(user="alice", role="admin", by="set-up link", address="127.0.0.1"),
        LoggedIn(user="alice", address="127.0.0.1"),
    ]


async def test_of_many_that_use_a_set_up_link_at_once_one_becomes_admin(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with running(settings), browser(settings) as client:
        link = setup_link(caplog)
        forms = [{"name": f"user{number}", "password": PASSWORD, "again": PASSWORD} for number in range(4)]
        answers = await asyncio.gather(*(client.post(link, data=form) for form in forms))
        assert sorted(answer.status_code for answer in answers) == [303, 404, 404, 404]
    async with accounts_of(settings) as accounts:
        assert len(await accounts.store.users()) == 1


async def test_of_two_admins_that_remove_each_other_at_once_one_stays(settings: Settings) -> None:
    for name in ("alice", "bob"):
        await add_user(settings, name, Role.ADMIN)
    async with accounts_of(settings) as first, accounts_of(settings) as second:
        doer = Doer("test")
        done = await asyncio.gather(first.remove("alice", doer), second.remove("bob", doer), return_exceptions=True)
        assert [type(one) for one in done if one is not None] == [AccessRefused]
        assert len(await first.store.users()) == 1


async def test_a_set_up_link_that_is_too_old_or_was_overtaken_does_not_hold(
    settings: Settings, caplog: pytest.LogCaptureFixture, admin_of_database: asyncpg.Connection
) -> None:
    caplog.set_level(logging.INFO)
    new = {"name": "alice", "password": PASSWORD, "again": PASSWORD}
    async with running(settings), browser(settings) as client:
        link = setup_link(caplog)
        await admin_of_database.execute("UPDATE access.setup_links SET expires_at = now() - interval '1 s'")
        assert (await client.get(link)).status_code == 404
        assert (await client.post(link, data=new)).status_code == 404
        async with accounts_of(settings) as accounts:
            with pytest.raises(LinkRefused):  # also when it ends after the page was asked for
                await accounts.set_up(link.removeprefix("/setup/"), "alice", PASSWORD, Doer("test"))
            another = f"/setup/{await accounts.make_setup_link(None)}"
        assert (await client.get(another)).status_code == 200
        await add_user(settings, "root", Role.ADMIN)
        assert (await client.post(another, data=new)).status_code == 404
    stored = await admin_of_database.fetchval("SELECT count(*) FROM access.setup_links")
    assert stored == 0


async def test_a_log_in_leads_to_the_page_that_was_asked_for_and_a_log_out_ends_it(
    settings: Settings, log: EventLog
) -> None:
    await add_user(settings, "alice", Role.ADMIN)
    async with running(settings), browser(settings) as client:
        asked = await client.get("/hosts/nas?at=2026-03-06T08:00Z")
        assert (asked.status_code, asked.headers["location"]) == (
            303,
            "/login?next=%2Fhosts%2Fnas%3Fat%3D2026-03-06T08%3A00Z",
        )
        page = await client.get(asked.headers["location"])
        assert 'value="/hosts/nas?at=2026-03-06T08:00Z"' in page.text
        name = {"name": "alice", "password": PASSWORD}
        answers = [
            await client.post("/login", data={"name": who, "password": password})
            for who, password in (("alice", "wrong horses"), ("nobody", PASSWORD), ("a\x00b", PASSWORD), ("", ""))
        ]
        assert {answer.status_code for answer in answers} == {401}
        assert len({re.sub(r'value="[^"]*"', "", answer.text) for answer in answers}) == 1  # nobody learns who exists
        assert not client.cookies
        for wanted, reached in (("//evil.example/", "/"), ("http://evil.example/", "/"), ("/hosts/nas", "/hosts/nas")):
            answer = await client.post("/login", data=name | {"next": wanted})
            assert answer.headers["location"] == reached
        flags = answer.headers["set-cookie"].lower()
        assert "httponly" in flags
        assert "samesite=lax" in flags
        assert "path=/;" in f"{flags};"
        assert "secure" not in flags
        by_tls = await client.post("/login", data=name, headers={"x-forwarded-proto": "https"})
        assert "secure" in by_tls.headers["set-cookie"].lower()
        kept = answer.headers["set-cookie"].split(";")[0]
        assert (await client.get("/", headers={"cookie": kept})).status_code == 200
        gone = await client.post("/logout", headers={"cookie": kept})
        assert (gone.status_code, gone.headers["location"]) == (303, "/login")
        async with browser(settings) as thief:
            assert (await thief.get("/api/me", headers={"cookie": kept})).status_code == 401
    facts = await told(log)
    assert facts[1:5] == [LoginRefused(user=who, address="127.0.0.1") for who in ("alice", "", "", "")]
    assert facts[-1] == LoggedOut(user="alice", address="127.0.0.1")


async def test_guessing_is_slowed_down_and_does_not_fill_the_log(settings: Settings, log: EventLog) -> None:
    await add_user(settings, "alice", Role.ADMIN)
    async with running(settings), browser(settings) as client:
        answers = [
            await client.post("/login", data={"name": "alice", "password": f"guess number {number}"})
            for number in range(FREE_TRIES + MOST_TOLD + 5)
        ]
        assert [answer.status_code for answer in answers[: FREE_TRIES + 1]] == [401] * FREE_TRIES + [429]
        assert {answer.status_code for answer in answers[FREE_TRIES:]} <= {401, 429}
        waiting = await client.post("/login", data={"name": "alice", "password": PASSWORD})
        assert waiting.status_code == 429  # also for the right one: nobody learns that it was
        assert 1 <= int(waiting.headers["retry-after"]) <= 900
        assert "Too many wrong passwords: try again in" in waiting.text
    assert sum(isinstance(fact, LoginRefused) for fact in await told(log)) == MOST_TOLD


async def test_a_session_ends_by_rest_by_age_and_by_another_password(
    settings: Settings, admin_of_database: asyncpg.Connection
) -> None:
    await add_user(settings, "alice", Role.ADMIN)

    async def aged(column: str, age: timedelta) -> None:
        sql = f"UPDATE access.sessions SET {column} = now() - $1::interval"  # noqa: S608  # a word of this test
        await admin_of_database.execute(sql, age)

    async with running(settings):
        for column, lifetime in (("seen_at", IDLE), ("started_at", ABSOLUTE)):
            async with browser(settings, "alice") as client:
                await aged(column, lifetime - timedelta(minutes=5))
                assert (await client.get("/api/me")).status_code == 200
                await aged(column, lifetime + timedelta(seconds=1))
                assert (await client.get("/api/me")).status_code == 401
                assert (await client.get("/")).headers["location"] == "/login"
        async with browser(settings, "alice") as here, browser(settings, "alice") as there:
            change = {"current": "not it at all", "password": "four green lamps", "again": "four green lamps"}
            refused = await here.post("/account/password", data=change)
            assert (refused.status_code, "This is not your password." in refused.text) == (400, True)
            assert (await there.get("/api/me")).status_code == 200
            before = here.cookies["bm_session"]
            assert (await here.post("/account/password", data=change | {"current": PASSWORD})).status_code == 303
            assert here.cookies["bm_session"] != before
            assert (await here.get("/api/me")).status_code == 200
            assert (await there.get("/api/me")).status_code == 401
        async with browser(settings, "alice", "four green lamps") as client:
            assert (await client.get("/api/me")).status_code == 200


async def test_a_stream_of_events_ends_with_its_session(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watched, "CHECK_EVERY_SECONDS", 0.0)
    await add_user(settings, "alice", Role.ADMIN)
    async with running(settings), browser(settings, "alice") as client, browser(settings, "alice") as other:
        async with client.stream("GET", "/api/events/stream", headers={"last-event-id": "0"}) as stream:
            lines = stream.aiter_lines()
            assert await anext(lines)
            cookie = {"cookie": f"bm_session={client.cookies['bm_session']}"}
            await other.post("/logout", headers=cookie | {"sec-fetch-site": "same-origin"})
            await add_user(settings, "bob", Role.VIEWER)  # something happens, so that something is to be sent
            rest = [line async for line in lines]
        assert not any("bob" in line for line in rest)


async def test_no_foreign_page_and_no_silent_one_changes_anything(settings: Settings) -> None:
    await add_user(settings, "alice", Role.ADMIN)
    program = await token_of(settings, "alice")
    async with running(settings), browser(settings, "alice") as client:
        own = {"cookie": f"bm_session={client.cookies['bm_session']}"}
        async with httpx.AsyncClient(base_url=base_of(settings)) as plain:
            for headers, status in (
                (own, 403),
                (own | {"sec-fetch-site": "cross-site"}, 403),
                (own | {"sec-fetch-site": "same-site"}, 403),
                (own | {"origin": "http://evil.example"}, 403),
                (own | {"origin": "null"}, 403),
                (own | {"origin": "http://["}, 403),
                (own | {"origin": base_of(settings)}, 202),
                (own | {"sec-fetch-site": "same-origin"}, 202),
                (own | {"sec-fetch-site": "cross-site", "origin": base_of(settings)}, 403),
                (program, 202),
                ({"authorization": "Bearer bm_wrong"}, 401),
                ({"authorization": "Basic YWxpY2U6eA=="}, 401),
                ({}, 401),
            ):
                assert (await plain.post("/api/cancel/nas", headers=headers)).status_code == status, headers
            # With no-referrer a browser says `Origin: null` with our own forms, and none of them would work.
            assert (await plain.get("/login")).headers["referrer-policy"] == "same-origin"
            by_other_name = {"host": "backup.lan"}  # a log-in is asked for, so that the name does not matter
            assert (await plain.get("/login", headers=by_other_name)).status_code == 200
            assert (await plain.get("/api/me", headers=own | by_other_name)).status_code == 200


async def test_no_secret_is_in_the_log_the_journal_or_the_database(
    settings: Settings, log: EventLog, admin_of_database: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await add_user(settings, "alice", Role.ADMIN)
    async with running(settings), browser(settings, "alice") as client:
        await client.post("/login", data={"name": PASSWORD, "password": "typed into the wrong field"})
        page = await client.post("/account/tokens", data={"name": "ci"})
        token = re.search(r"bm_[\w-]{43}", page.text)
        assert token is not None
        assert "data-live" not in page.text  # it is not renewed while somebody copies the token
        assert token[0] not in (await client.get("/account")).text
        assert (await client.get("/api/me", headers={"authorization": f"Bearer {token[0]}"})).json()["token"] == "ci"
        async with accounts_of(settings) as accounts:
            link = await accounts.make_setup_link(None)
        await client.get(f"/setup/{link}")
        secrets = [PASSWORD, "typed into the wrong field", token[0], client.cookies["bm_session"], link]
    tables = ["log.events", *(f"access.{name}" for name in ("users", "sessions", "tokens", "setup_links", "untold"))]
    queries = [f"SELECT t::text FROM {table} t" for table in tables]  # noqa: S608  # words of this test
    kept = [str(await admin_of_database.fetch(query)) for query in queries]
    assert "alice" in kept[0]
    ours = [record for record in caplog.records if not record.name.startswith("http")]  # httpx is the browser's own
    journal = "\n".join(logging.Formatter().format(record) for record in ours)
    assert "The dashboard is on" in journal
    for place in (*kept, journal):
        assert not [secret for secret in secrets if secret in place]


async def test_other_machines_are_answered_as_soon_as_there_is_a_user(settings: Settings) -> None:
    everywhere = ("0.0.0.0", settings.api_listen[1])  # noqa: S104  # what this is about
    wide = msgspec.structs.replace(settings, api_listen=everywhere)
    # 127.0.0.2 is this machine too, but not the address of the loopback socket.
    async with httpx.AsyncClient(base_url=base_of(wide, "127.0.0.2")) as afar, browser(wide) as near:
        async with running(wide):
            with pytest.raises(httpx.ConnectError):
                await afar.get("/login")
            async with near.stream("GET", "/api/events/stream") as open_before:
                assert open_before.status_code == 200
                await add_user(wide, "alice", Role.ADMIN)
                assert (await answered(afar, "/api/status")).status_code == 401
                assert (await answered(near, "/api/status")).status_code == 401
        async with running(wide):
            assert (await answered(afar, "/")).headers["location"] == "/login"
            assert (await answered(near, "/")).headers["location"] == "/login"


async def test_an_address_that_this_machine_lacks_takes_nothing_from_its_own_users(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = msgspec.structs.replace(settings, api_listen=("203.0.113.5", settings.api_listen[1]))
    await add_user(elsewhere, "alice", Role.ADMIN)
    async with running(elsewhere), browser(elsewhere, "alice") as client:
        assert (await client.get("/")).status_code == 200
    assert "cannot listen on 203.0.113.5" in caplog.text


async def answered(client: httpx.AsyncClient, path: str) -> httpx.Response:
    while True:
        try:
            return await client.get(path)
        except httpx.TransportError:
            continue


async def test_while_the_database_is_away_whoever_was_logged_in_may_look_and_nothing_else(
    settings: Settings, shared_server: SharedPostgres
) -> None:
    await add_user(settings, "alice", Role.ADMIN)
    async with running(settings), browser(settings, "alice") as client, browser(settings) as stranger:
        assert (await client.get("/")).status_code == 200
        await shared_server.kill()
        try:
            page = await client.get("/")
            assert (page.status_code, "alice" in page.text) == (200, True)
            assert (await client.post("/api/cancel/nas")).status_code == 403
            assert (await client.get("/users")).status_code == 403
            assert (await stranger.get("/api/status")).status_code == 401
            assert (await stranger.get("/healthz")).status_code == 200
            assert (await stranger.post("/login", data={"name": "alice", "password": PASSWORD})).status_code == 503
        finally:
            await shared_server.start()
        assert (await client.post("/api/cancel/nas")).status_code == 202
