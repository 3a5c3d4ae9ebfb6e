"""What no client of good faith sends, byte for byte over the socket: it is refused, and nothing breaks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx
import pytest

from shared.adapters.jetstream import Bus
from shared.adapters.postgres import EventLog
from shared.domain.names import host_stream
from tests.support.builders import HOST, new, one_of_each
from tests.support.servers import BOUND_SECONDS, Database, NatsServer
from tests.support.serving import served_settings, serving

pytestmark = pytest.mark.timeout(BOUND_SECONDS)

JSON = b"application/json"
FORM = b"application/x-www-form-urlencoded"
LONG = "a" * 5_000
PATHS = {
    400: [
        *("/?at=yesterday", "/?at=%00", "/?at=%ff", "/?at=x%0d%0aset-cookie:a=b", "/?at=0001-01-01", "/?at=9999-12-31"),
        *("/hosts/nas?at=0001-01-01T00:00:00%2B14:00", "/api/hosts/nas/plan?at=9999-12-31T23:59:59-14:00"),
        *("/api/events?after=-1", "/api/events?wait_seconds=nan", "/api/events?wait_seconds=inf", "/events?before=x"),
        *("/events?before=-5", "/runs?before=0", "/api/runs?before=99999999999999999999999999", "/runs?job=sweep"),
    ],
    404: [
        *("/api/hosts/%00", "/api/hosts/%ff", "/api/hosts/nas%0d%0ax:y", f"/api/hosts/{LONG}", "/api/hosts/..%2f.."),
        *("/static/%00", "/static/..%00/", f"/static/{LONG}", "/static/..%2fapp.py", "/%00", "/hosts/%F0%9F%98%80"),
    ],
    200: [
        *(
            "/?at=",
            "/?at=2026-03-06",
            "/?at=1970-01-01",
            "/hosts/nas?at=2999-12-31",
            "/api/hosts/nas/plan?at=1970-01-01",
        ),
        *("/api/events?after=9223372036854775808", "/api/events?after=99999999999999999999999999", "//"),
        "/?" + "a=1&" * 3_000,
    ],
}
BODIES = [
    (b"/api/trigger", JSON, b"\xff\xfe", 400),
    (b"/api/trigger", JSON, b"[" * 30_000, 400),
    (b"/api/trigger", JSON, b'{"hosts":["\\u0000"]}', 404),
    (b"/api/trigger", JSON, b'{"hosts":["\\ud800"]}', 400),
    (b"/api/trigger", JSON, b'{"hosts":["nas\\n"]}', 404),
    (b"/api/trigger", JSON, b"x" * 70_000, 413),
    (b"/api/trigger", b"text/plain", b'{"hosts":["nas"]}', 415),
    (b"/api/trigger", b"\xff", b'{"hosts":["nas"]}', 415),
    (b"/api/cancel/nas", b"text/plain", b"x", 415),
    (b"/hosts/nas/run", b"text/plain", b"job=snapshot", 415),
    (b"/hosts/nas/run", FORM, b"job=sweep", 400),
    (b"/hosts/nas%0d%0alocation:evil/cancel", FORM, b"", 404),
]


@pytest.fixture
async def client(
    database: Database, nats_server: NatsServer, bus: Bus, log: EventLog
) -> AsyncIterator[httpx.AsyncClient]:
    """The API of a host to which everything has happened."""
    await log.append(host_stream(HOST), None, [new(event) for event in one_of_each()])
    async with serving(served_settings(database, nats_server)) as made:
        yield made


async def ask(client: httpx.AsyncClient, line: bytes, *headers: bytes, body: bytes = b"") -> tuple[int, bytes]:
    """The status and the head of an answer."""
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    host = b"Host: 127.0.0.1:%d" % (client.base_url.port or 0)
    length = b"Content-Length: %d" % len(body)
    writer.write(b"\r\n".join([line + b" HTTP/1.1", host, b"Connection: close", length, *headers, b"", body]))
    with contextlib.closing(writer):
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), BOUND_SECONDS)
    return int(head.split()[1]), head.lower()


async def test_odd_paths_and_queries_are_answered(client: httpx.AsyncClient) -> None:
    for status, paths in PATHS.items():
        for path in paths:
            assert (path[:90], (await ask(client, b"GET " + path.encode()))[0]) == (path[:90], status)


async def test_odd_bodies_are_refused(client: httpx.AsyncClient) -> None:
    for path, kind, body, status in BODIES:
        found = await ask(client, b"POST " + path, b"Content-Type: " + kind, body=body)
        assert (path, kind, body[:40], found[0]) == (path, kind, body[:40], status)
        assert b"evil" not in found[1]


async def test_the_place_in_the_stream_is_a_number(client: httpx.AsyncClient) -> None:
    for place in (b"\xb2", b"9" * 5_000, b"-1", b"1e3", b"\xff", b"abc"):
        assert (await ask(client, b"GET /api/events/stream", b"Last-Event-ID: " + place))[0] == 400
    assert (await ask(client, b"GET /api/events/stream", b"Last-Event-ID: " + b"9" * 18))[0] == 200


async def test_a_broken_origin_is_somebody_elses(client: httpx.AsyncClient) -> None:
    for origin in (b"http://[", b"\xff", b"http://127.0.0.1:99999999"):
        assert (await ask(client, b"POST /api/cancel/nas", b"Origin: " + origin))[0] == 403


async def test_methods_that_are_not_there_say_which_are(client: httpx.AsyncClient) -> None:
    for method in (b"TRACE", b"DELETE", b"PROPFIND"):
        status, head = await ask(client, method + b" /api/status")
        assert status == 405
        assert b"\r\nallow: " in head
        assert b"get" in head.partition(b"\r\nallow: ")[2].partition(b"\r\n")[0]
    assert (await ask(client, b"OPTIONS /api/trigger"))[0] == 204


async def test_a_browser_is_told_on_a_page_and_a_program_in_a_document(client: httpx.AsyncClient) -> None:
    browser = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for path, status, says in (
        ("/hosts/nobody", 404, "There is no host &#39;nobody&#39;."),
        ("/nothing", 404, "Nothing is here"),
        ("/?at=<script>alert(1)</script>", 400, "&lt;script&gt;"),
    ):
        page = await client.get(path, headers=browser)
        assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
        assert says in page.text
        assert "<script" not in page.text
        assert "script-src 'self'" in page.headers["content-security-policy"]
        document = await client.get(path)
        assert document.headers["content-type"] == "application/problem+json"
    assert (await client.get("/api/nothing", headers=browser)).json()["status"] == 404
    assert "get" in (await client.delete("/", headers=browser)).headers["allow"].lower()
    assert (await client.get("/", headers={**browser, "host": "evil.example"})).status_code == 403
