"""Restores over the API and the pages: asked for, seen, called off, and never more than was said."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import nats
import pytest

from services.embedded.sshd import free_port
from shared.adapters.bus_layout import CONTROL
from shared.adapters.jetstream import Bus
from shared.adapters.postgres import EventLog
from shared.config import Settings
from shared.domain.access import Role
from shared.domain.events import RestoreCancelled, RestoreFailed, RestoreRequested, RestoreStarted
from shared.domain.names import host_stream
from tests.support.builders import HOST, SLOT, a_run, a_snapshot_story, build, new, some_settings
from tests.support.servers import BOUND_SECONDS, Database, NatsServer
from tests.support.serving import serving

pytestmark = pytest.mark.timeout(BOUND_SECONDS)
STREAM = host_stream(HOST)
RESTORES = "/api/hosts/nas/restores"


@pytest.fixture
def settings(database: Database, nats_server: NatsServer) -> Settings:
    return some_settings(
        ["nas", "web"],
        nats_url=nats_server.url,
        postgres_dsn=database.worker_dsn,
        api_listen=("127.0.0.1", free_port()),
    )


@pytest.fixture
async def client(settings: Settings, bus: Bus, log: EventLog) -> AsyncIterator[httpx.AsyncClient]:
    """The API of a host that has one snapshot."""
    appended = await log.append(STREAM, None, a_snapshot_story(SLOT))
    async with serving(settings, Role.OPERATOR) as made:
        await heard(made, appended.first_position + 2)
        yield made


async def heard(client: httpx.AsyncClient, position: int) -> None:
    await client.get("/api/events", params={"after": position - 1, "wait_seconds": 20})


async def requested(log: EventLog) -> list[RestoreRequested]:
    found = [recorded.event for recorded in await log.read_stream(STREAM)]
    return [event for event in found if isinstance(event, RestoreRequested)]


async def test_a_restore_is_a_fact_in_the_log_and_can_be_called_off(client: httpx.AsyncClient, log: EventLog) -> None:
    asked = await client.post(RESTORES, json={"point": "latest", "paths": ["home/alice/a%0Ab", "home/alice/a%0Ab/c"]})
    assert asked.status_code == 202, asked.text
    assert "fresh directory below /nowhere/data/restored" in asked.json()["detail"]
    (wish,) = await requested(log)
    assert (str(wish.restore), wish.point) == (asked.json()["restore"], "2026-03-06_0800")
    assert (wish.paths, wish.folder, wish.target) == (("home/alice/a%0Ab",), "/nowhere/data/restored", "folder")
    await heard(client, await log.head())
    (one,) = (await client.get(RESTORES)).json()
    assert (one["outcome"], one["by"]) == ("waiting", "alice (token test)")
    assert (await client.get(f"{RESTORES}/{wish.restore}")).json() == one
    assert "alice" not in (await client.get("/api/hosts")).text  # which viewers see, too
    assert (await client.post(f"{RESTORES}/{wish.restore}/cancel")).status_code == 202
    assert isinstance((await log.read_stream(STREAM))[-1].event, RestoreCancelled)
    assert (await client.post(f"{RESTORES}/{wish.restore}/cancel")).status_code == 409


async def test_one_under_way_is_told_over_the_bus_and_only_that_one(
    client: httpx.AsyncClient, log: EventLog, settings: Settings
) -> None:
    restore, run = a_run(), a_run()
    story = [
        new(build(RestoreRequested, restore=restore), run=restore),
        new(build(RestoreStarted, restore=restore, run=run), run=run),
    ]
    await log.append(STREAM, None, story)
    assert (await client.post(f"{RESTORES}/{restore}/cancel")).status_code == 202
    raw = await nats.connect(settings.nats_url)
    try:
        message = await raw.jetstream().get_last_msg(CONTROL, "backup.cancel.nas")
    finally:
        await raw.close()
    assert json.loads(message.data or b"") == {"by": "alice (token test)", "restore": str(restore)}


async def test_what_is_wrong_is_refused_with_a_sentence_and_nothing_is_asked_for(
    client: httpx.AsyncClient, log: EventLog
) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"point": "2020-01-01_0000"}, "no restore point"),
        ({"point": "latest", "paths": ["../x"]}, "no path inside"),
        ({"point": "latest", "folder": "/etc"}, "Nothing is restored to"),
        ({"point": "latest", "target": "host", "over_original": True}, "over the original"),
        ({"point": "latest", "target": "host", "over_original": True, "confirm": "web"}, "over the original"),
        ({"paths": []}, "point"),
    ]
    for body, says in wrong:
        answer = await client.post(RESTORES, json=body)
        assert (answer.status_code, says in answer.text) == (400, True), answer.text
    assert (await client.post("/api/hosts/nobody/restores", json={"point": "latest"})).status_code == 404
    assert (await client.get(f"{RESTORES}/{a_run()}")).status_code == 404
    assert (await client.post(f"{RESTORES}/{a_run()}/cancel")).status_code == 409
    assert (await client.post("/api/trigger", json={"job": "restore"})).status_code == 400
    pressed = await client.post("/restore/nas/latest", data={"target": "over", "confirm": "web"})
    assert pressed.status_code == 400
    assert await requested(log) == []


async def test_the_form_asks_for_what_it_says(client: httpx.AsyncClient, log: EventLog) -> None:
    page = await client.get("/restore/nas/latest/home/alice/%3Cb%3E%FF%0A")
    assert page.status_code == 200
    assert "home/alice/%3Cb%3E%FF%0A" in page.text
    assert "<b>" not in page.text
    assert "hosts restore-key nas" in page.text
    pressed = await client.post(
        "/restore/nas/2026-03-06_0800",
        data={"target": "folder", "folder": "/nowhere/data/restored", "path": "home/alice/%3Cb%3E%FF%0A"},
    )
    assert (pressed.status_code, pressed.headers["location"]) == (303, "/restores/nas")
    await client.post("/restore/nas/latest", data={"target": "over", "confirm": "nas"})
    part, over = await requested(log)
    assert part.paths == ("home/alice/%3Cb%3E%FF%0A",)
    assert (over.target, over.over_original, over.by) == ("host", True, "alice (token test)")


async def test_the_list_shows_what_became_of_each(client: httpx.AsyncClient, log: EventLog) -> None:
    assert "A backup is only proven by a restore" in (await client.get("/restores/nas")).text
    restore, run = a_run(), a_run()
    failed = build(
        RestoreFailed, restore=restore, run=run, message="<script>alert(1)</script>", left=("/srv/.partial",)
    )
    story = [
        new(build(RestoreRequested, restore=restore, paths=("home/x%0A",)), run=restore),
        new(build(RestoreStarted, restore=restore, run=run), run=run, step=1),
        new(failed, run=run, step=2),
    ]
    appended = await log.append(STREAM, None, story)
    await heard(client, appended.first_position + 2)
    page = (await client.get("/restores/nas")).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "home/x%0A" in page
    assert "/srv/.partial" in page
    waiting = await client.post(RESTORES, json={"point": "latest"})
    await heard(client, appended.first_position + 3)
    assert waiting.json()["restore"] in (await client.get("/restores/nas")).text
    pressed = await client.post("/restores/nas/cancel", data={"restore": waiting.json()["restore"]})
    assert pressed.status_code == 303
    assert isinstance((await log.read_stream(STREAM))[-1].event, RestoreCancelled)
