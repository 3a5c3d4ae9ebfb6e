"""The API and the pages over real HTTP, with the real log and the real bus."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import nats
import pytest

from services.api.service import serve
from services.embedded.sshd import free_port
from shared.adapters.bus_layout import CONTROL, TRIGGERS
from shared.adapters.jetstream import Bus
from shared.adapters.postgres import EventLog
from shared.config import Settings
from shared.domain.errors import BackupManagerError
from shared.domain.events import AlertRaised, SnapshotCompleted, SnapshotFailed, SnapshotStarted
from shared.domain.names import host_stream
from tests.support.builders import HOST, SLOT, a_run, a_snapshot_story, build, new, some_settings
from tests.support.servers import BOUND_SECONDS, Database, NatsServer

pytestmark = pytest.mark.timeout(BOUND_SECONDS)

STREAM = host_stream(HOST)
HOSTILE = "<script>alert(1)</script>\x1b[31m"


@pytest.fixture
def settings(database: Database, nats_server: NatsServer) -> Settings:
    return some_settings(
        ["nas", "web"],
        nats_url=nats_server.url,
        postgres_dsn=database.worker_dsn,
        api_listen=("127.0.0.1", free_port()),
    )


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The service, from its first answer to the end of the block."""
    stop = asyncio.Event()
    base = f"http://127.0.0.1:{settings.api_listen[1]}"
    async with asyncio.TaskGroup() as tasks, httpx.AsyncClient(base_url=base, timeout=20) as client:
        running = tasks.create_task(serve(settings, stop))
        while not running.done():
            try:
                await client.get("/api/status")
                break
            except httpx.TransportError:
                await asyncio.sleep(0.05)
        yield client
        stop.set()


@pytest.fixture
async def client(settings: Settings, bus: Bus) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(settings) as made:
        yield made


async def heard(client: httpx.AsyncClient, position: int) -> list[dict[str, Any]]:
    """The events up to a position, as soon as the API knows it."""
    await client.get("/api/events", params={"after": position - 1, "wait_seconds": 20})
    return list((await client.get("/api/events", params={"limit": 1000})).json())


async def a_snapshot(log: EventLog, client: httpx.AsyncClient) -> None:
    appended = await log.append(STREAM, None, a_snapshot_story(SLOT))
    await heard(client, appended.first_position + 2)


async def test_the_status_is_that_of_the_log(client: httpx.AsyncClient, log: EventLog) -> None:
    empty = (await client.get("/api/status")).json()
    assert empty["job_running"] is False
    assert {host["status"] for host in empty["hosts"].values()} == {"never"}
    await a_snapshot(log, client)
    found = (await client.get("/api/status")).json()["hosts"]["nas"]
    assert (found["status"], found["stage"], found["snapshot"]) == ("ok", "done", "2026-03-06_0800")


async def test_every_answer_can_be_of_the_past(client: httpx.AsyncClient, log: EventLog) -> None:
    await a_snapshot(log, client)
    before = (await client.get("/api/hosts/nas/snapshots", params={"at": "2020-01-01T00:00:00Z"})).json()
    assert before == []
    assert len((await client.get("/api/hosts/nas/snapshots")).json()) == 1
    page = await client.get("/", params={"at": "2020-01-01T00:00:00Z"})
    assert "This is the past" in page.text


async def test_a_wish_goes_to_the_bus_and_is_refused_while_it_is_fulfilled(
    client: httpx.AsyncClient, log: EventLog, settings: Settings
) -> None:
    answer = await client.post("/api/trigger", json={"hosts": ["nas"], "job": "archive"})
    assert answer.status_code == 202
    assert answer.json()["hosts"] == ["nas"]
    assert (await last_on(settings, TRIGGERS, "backup.trigger"))["job"] == "archive"
    run = a_run()
    appended = await log.append(STREAM, None, [new(build(SnapshotStarted, run=run), run=run)])
    await heard(client, appended.first_position)
    refused = await client.post("/api/trigger", json={"hosts": ["nas"]})
    assert refused.status_code == 409
    assert refused.headers["content-type"].startswith("application/problem+json")
    assert "running already" in refused.json()["detail"]
    assert (await client.post("/api/trigger/dry-run", json={"hosts": ["nas"]})).status_code == 202
    assert (await last_on(settings, TRIGGERS, "backup.trigger"))["dry_run"] is True
    assert (await client.post("/api/trigger")).json()["hosts"] == ["nas", "web"]


async def test_a_cancel_goes_to_the_bus(client: httpx.AsyncClient, settings: Settings) -> None:
    assert (await client.post("/api/cancel/nas")).status_code == 202
    assert (await last_on(settings, CONTROL, "backup.cancel.nas")) == {"by": "api"}


async def last_on(settings: Settings, stream: str, subject: str) -> Any:
    raw = await nats.connect(settings.nats_url)
    try:
        message = await raw.jetstream().get_last_msg(stream, subject)
    finally:
        await raw.close()
    return json.loads(message.data or b"null")


@pytest.mark.parametrize(
    ("asked", "status", "says"),
    [
        (("GET", "/api/hosts/nobody", None), 404, "There is no host 'nobody'"),
        (("GET", "/api/hosts/..%2fetc", None), 404, ""),
        (("GET", "/hosts/nobody", None), 404, "There is no host 'nobody'"),
        (("GET", "/api/nothing", None), 404, "Not Found"),
        (("GET", "/api/status?at=yesterday", None), 400, "at"),
        (("GET", "/api/events?after=-1", None), 400, "after"),
        (("GET", "/api/events?limit=99999", None), 400, "limit"),
        (("DELETE", "/api/status", None), 405, ""),
        (("POST", "/api/cancel/nobody", None), 404, "There is no host 'nobody'"),
        (("POST", "/api/trigger", b'{"hosts":["nobody"]}'), 404, "There is no host 'nobody'"),
        (("POST", "/api/trigger", b'{"hosts":[]}'), 404, "no hosts"),
        (("POST", "/api/trigger", b'{"job":"sweep"}'), 400, ""),
        (("POST", "/api/trigger", b'{"command":"rm"}'), 400, ""),
        (("POST", "/api/trigger", b"now please"), 400, ""),
        (("POST", "/api/trigger", b"x" * 200_000), 413, ""),
    ],
)
async def test_what_is_wrong_is_told_as_a_problem_with_a_sentence(
    client: httpx.AsyncClient, asked: tuple[str, str, bytes | None], status: int, says: str
) -> None:
    method, path, body = asked
    answer = await client.request(method, path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status
    problem = answer.json()
    assert problem["status"] == status
    assert says in problem["detail"]


@pytest.mark.parametrize("path", ["/", "/hosts/nas", "/events"])
async def test_what_a_host_says_is_shown_and_never_obeyed(client: httpx.AsyncClient, log: EventLog, path: str) -> None:
    run = a_run()
    story = [
        new(build(SnapshotStarted, run=run), run=run, step=1),
        new(build(SnapshotFailed, run=run, message=HOSTILE), run=run, step=2),
        new(build(AlertRaised, evidence=HOSTILE), run=run, step=3),
    ]
    appended = await log.append(STREAM, None, story)
    await heard(client, appended.first_position + 2)
    page = await client.get(path)
    assert page.status_code == 200
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert(1)" in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]


async def test_the_page_of_a_host_says_why_each_restore_point_is_kept(client: httpx.AsyncClient, log: EventLog) -> None:
    await a_snapshot(log, client)
    page = (await client.get("/hosts/nas")).text
    assert "2026-03-06_0800" in page
    assert "newest complete" in page
    plan = (await client.get("/api/hosts/nas/plan")).json()
    assert plan["verdicts"][0]["keep"] is True


async def test_events_are_paged_waited_for_and_streamed_from_where_one_was(
    client: httpx.AsyncClient, log: EventLog
) -> None:
    await a_snapshot(log, client)
    first = (await client.get("/api/events", params={"limit": 2})).json()
    rest = (await client.get("/api/events", params={"after": first[-1]["position"]})).json()
    assert [event["position"] for event in first + rest] == [1, 2, 3]
    assert rest[0]["event"]["type"] == "SnapshotCompleted"
    waiting = asyncio.create_task(client.get("/api/events", params={"after": 3, "wait_seconds": 20}))
    await log.append(STREAM, None, [new(build(AlertRaised))])
    assert [event["position"] for event in (await waiting).json()] == [4]
    async with client.stream("GET", "/api/events/stream", headers={"Last-Event-ID": "2"}) as stream:
        seen = []
        async for line in stream.aiter_lines():
            if line.startswith("id:"):
                seen.append(line)
            if len(seen) == 2:
                break
    assert seen == ["id: 3", "id: 4"]


async def test_only_this_machine_is_answered_and_no_page_of_somebody_else(client: httpx.AsyncClient) -> None:
    assert (await client.get("/", headers={"host": "evil.example"})).status_code == 403
    assert (await client.get("/", headers={"host": "127.0.0.1.evil.example"})).status_code == 403
    for headers in (
        {"origin": "http://evil.example"},
        {"sec-fetch-site": "cross-site"},
        {"origin": "null"},
    ):
        assert (await client.post("/api/cancel/nas", headers=headers)).status_code == 403
    own = f"http://{client.base_url.host}:{client.base_url.port}"
    assert (await client.post("/api/cancel/nas", headers={"origin": own})).status_code == 202


async def test_the_buttons_work_without_scripts(client: httpx.AsyncClient, settings: Settings) -> None:
    pressed = await client.post("/hosts/nas/run", data={"job": "archive"})
    assert (pressed.status_code, pressed.headers["location"]) == (303, "/hosts/nas")
    assert (await last_on(settings, TRIGGERS, "backup.trigger"))["job"] == "archive"
    assert (await client.post("/hosts/nas/cancel")).status_code == 303


async def test_the_schedule_and_the_description_of_the_api_are_there(client: httpx.AsyncClient) -> None:
    slots = (await client.get("/api/schedule")).json()
    assert {(slot["job"], slot["host"]) for slot in slots} >= {("snapshot", "nas"), ("retention", "web")}
    assert slots == sorted(slots, key=lambda slot: (slot["next_run"], slot["host"]))
    described = (await client.get("/api/schema/openapi.json")).json()
    assert {"/api/status", "/api/trigger", "/api/cancel/{host}", "/api/events"} <= set(described["paths"])
    for name in ("style.css", "live.js", "icon.svg"):
        assert (await client.get(f"/static/{name}")).status_code == 200
    assert (await client.get("/static/..%2fapp.py")).status_code == 404


async def test_a_port_that_is_taken_is_said(settings: Settings, bus: Bus) -> None:
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", settings.api_listen[1])
    async with taken:
        with pytest.raises((BackupManagerError, BaseExceptionGroup)) as caught:
            await asyncio.wait_for(serve(settings, asyncio.Event()), 20)
    assert "cannot listen" in repr(caught.value.args) + str(getattr(caught.value, "exceptions", ""))


async def test_a_completed_snapshot_is_on_the_page_at_once(client: httpx.AsyncClient, log: EventLog) -> None:
    later = SLOT + timedelta(hours=1)
    await log.append(STREAM, None, [new(build(SnapshotCompleted, slot=later, snapshot="2026-03-06_0900"))])
    await heard(client, 1)
    assert "2026-03-06_0900" in (await client.get("/hosts/nas")).text
