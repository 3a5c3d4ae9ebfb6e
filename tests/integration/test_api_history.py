"""Runs, events, holds and the state of the chain, over real HTTP with the real log."""

from __future__ import annotations

import asyncpg
import httpx
import pytest

from services.api.chain import Chain
from shared.adapters.clock import SystemClock
from shared.adapters.postgres import EventLog
from shared.domain.events import (
    AlertRaised,
    AnyEvent,
    ArchiveStarted,
    HoldPlaced,
    HoldReleased,
    SnapshotFailed,
    SnapshotStarted,
)
from shared.domain.names import host_stream
from tests.integration.test_api import client, heard, settings
from tests.support.builders import HOST, SLOT, a_run, a_snapshot_story, alerts, build, new
from tests.support.servers import BOUND_SECONDS

pytestmark = pytest.mark.timeout(BOUND_SECONDS)
__all__ = ["client", "settings"]  # fixtures

STREAM = host_stream(HOST)


async def some_runs(log: EventLog, client: httpx.AsyncClient) -> None:
    """A snapshot that went well, one that failed, and an archive under way."""
    await log.append(STREAM, None, a_snapshot_story(SLOT))
    run = a_run(7)
    failed: list[AnyEvent] = [
        build(SnapshotStarted, run=run),
        build(SnapshotFailed, run=run, message="<b>No route</b> to host."),
    ]
    await log.append(STREAM, None, [new(event, run=run, step=step) for step, event in enumerate(failed, 1)])
    going_on = a_run(8)
    appended = await log.append(STREAM, None, [new(build(ArchiveStarted, run=going_on), run=going_on)])
    await heard(client, appended.first_position)


async def test_runs_are_told_by_how_they_ended(client: httpx.AsyncClient, log: EventLog) -> None:
    await some_runs(log, client)
    found = (await client.get("/api/runs")).json()
    assert [(run["job"], run["outcome"]) for run in found] == [
        ("archive", "running"),
        ("snapshot", "failed"),
        ("snapshot", "completed"),
    ]
    assert found[1]["message"] == "<b>No route</b> to host."
    older = (await client.get("/api/runs", params={"before": found[1]["position"], "limit": 1})).json()
    assert [run["outcome"] for run in older] == ["completed"]


@pytest.mark.parametrize(
    ("query", "outcomes"),
    [
        ({"outcome": "failed"}, ["failed"]),
        ({"outcome": "running"}, ["running"]),
        ({"job": "archive"}, ["running"]),
        ({"job": "snapshot", "host": "nas"}, ["failed", "completed"]),
        ({"host": "web"}, []),
        ({"at": "2020-01-01T00:00:00Z"}, []),
        ({"outcome": "cancelled"}, []),
    ],
)
async def test_runs_are_chosen(
    client: httpx.AsyncClient, log: EventLog, query: dict[str, str], outcomes: list[str]
) -> None:
    await some_runs(log, client)
    assert [run["outcome"] for run in (await client.get("/api/runs", params=query)).json()] == outcomes
    page = await client.get("/runs", params=query)
    assert page.status_code == 200
    assert page.text.count('<span class="word outcome-') == len((await client.get("/api/runs", params=query)).json())


async def test_messages_are_escaped_on_the_page_of_runs(client: httpx.AsyncClient, log: EventLog) -> None:
    await some_runs(log, client)
    page = (await client.get("/runs")).text
    assert "&lt;b&gt;No route&lt;/b&gt; to host." in page
    assert "<b>" not in page


async def test_a_run_shows_everything_that_it_recorded(client: httpx.AsyncClient, log: EventLog) -> None:
    await some_runs(log, client)
    run = (await client.get("/api/runs", params={"outcome": "failed"})).json()[0]["run"]
    events = (await client.get(f"/api/hosts/nas/runs/{run}")).json()
    assert [one["event"]["type"] for one in events] == ["SnapshotStarted", "SnapshotFailed"]
    page = await client.get(f"/hosts/nas/runs/{run}")
    assert run in page.text
    nowhere = await client.get(f"/api/hosts/web/runs/{run}")
    assert nowhere.status_code == 404
    assert "web never had a run" in nowhere.json()["detail"]


async def test_events_are_chosen_on_their_page(client: httpx.AsyncClient, log: EventLog) -> None:
    await some_runs(log, client)
    appended = await log.append("host-web", None, [new(build(AlertRaised, evidence="only this one"))])
    await heard(client, appended.first_position)
    assert "only this one" in (await client.get("/events")).text
    of_host = (await client.get("/events", params={"stream": "host-nas"})).text
    assert "only this one" not in of_host
    assert "No route" in of_host
    of_type = (await client.get("/events", params={"type": "AlertRaised"})).text
    assert "only this one" in of_type
    assert "No route" not in of_type
    assert "only this one" not in (await client.get("/events", params={"at": "2020-01-01T00:00:00Z"})).text
    assert (await client.get("/events", params={"type": "Nonsense'"})).status_code == 404


async def test_old_events_are_a_page_away(client: httpx.AsyncClient, log: EventLog) -> None:
    appended = await log.append(STREAM, None, alerts(120))
    await heard(client, appended.first_position + 119)
    page = await client.get("/events", params={"before": 21})
    assert page.text.count("<tr><td") == 20
    assert "Older" not in page.text
    assert "before=71" in (await client.get("/events")).text


async def test_a_hold_is_placed_and_lifted_with_a_reason(client: httpx.AsyncClient, log: EventLog) -> None:
    await some_runs(log, client)
    assert (await client.get("/api/hosts/nas/hold")).json()["on_hold"] is False
    placed = await client.post("/api/hosts/nas/hold", json={"reason": "the disk clicks"})
    assert placed.status_code == 201
    assert placed.json() == {"on_hold": True, "reason": "the disk clicks", "pinned": "2026-03-06_0800"}
    assert (await client.post("/api/hosts/nas/hold", json={"reason": "again"})).status_code == 409
    assert "On hold: the disk clicks" in (await client.get("/hosts/nas")).text
    lifted = await client.post("/api/hosts/nas/hold/release", json={"reason": "a new disk"})
    assert lifted.json()["on_hold"] is False
    assert (await client.post("/api/hosts/nas/hold/release", json={"reason": "again"})).status_code == 404
    told = [one.event for one in await log.read_stream(STREAM) if isinstance(one.event, HoldPlaced | HoldReleased)]
    assert [(type(event).__name__, event.reason) for event in told] == [
        ("HoldPlaced", "the disk clicks"),
        ("HoldReleased", "a new disk"),
    ]


async def test_a_hold_is_placed_and_lifted_by_forms(client: httpx.AsyncClient, log: EventLog) -> None:
    await some_runs(log, client)
    answer = await client.post("/hosts/nas/hold", data={"reason": "looking into it"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/hosts/nas")
    assert "On hold: looking into it" in (await client.get("/hosts/nas")).text
    await client.post("/hosts/nas/release", data={"reason": "done"})
    assert "On hold" not in (await client.get("/hosts/nas")).text


@pytest.mark.parametrize(
    "body", [{}, {"reason": ""}, {"reason": "x" * 501}, {"reason": "x", "pinned": "2020-01-01_0000"}]
)
async def test_a_hold_needs_a_reason_and_a_snapshot(client: httpx.AsyncClient, body: dict[str, str]) -> None:
    assert (await client.post("/api/hosts/nas/hold", json=body)).status_code in {400, 404}


async def test_the_chain_is_checked_as_it_grows(log: EventLog, admin: asyncpg.Connection) -> None:
    chain = Chain(log, SystemClock())
    await log.append(STREAM, None, alerts(5))
    await log.anchor()
    await chain.look()
    assert (chain.state.position, chain.state.anchors, chain.state.findings) == (5, 1, ())
    await log.append(STREAM, None, alerts(3))
    await chain.look()
    assert (chain.state.position, chain.state.findings) == (8, ())
    await log.append(STREAM, None, alerts(1))
    await admin.execute("ALTER TABLE log.events DISABLE TRIGGER ALL")
    await admin.execute('UPDATE log.events SET data = \'{"type":"AlertRaised"}\' WHERE position = 9')
    await chain.look()
    assert [finding.position for finding in chain.state.findings] == [9]


async def test_a_tail_that_was_cut_off_is_noticed_by_its_anchor(log: EventLog, admin: asyncpg.Connection) -> None:
    await log.append(STREAM, None, alerts(5))
    await log.anchor()
    await admin.execute("ALTER TABLE log.events DISABLE TRIGGER ALL; ALTER TABLE log.anchors DISABLE TRIGGER ALL")
    await admin.execute("ALTER TABLE log.anchors DROP CONSTRAINT anchors_position_fkey")
    await admin.execute("DELETE FROM log.events WHERE position > 3")
    chain = Chain(log, SystemClock())
    await chain.look()
    assert [finding.sentence for finding in chain.state.findings] == [
        "the end of the log is missing: an anchor knows an event there"
    ]


async def test_the_log_says_how_far_it_reaches(client: httpx.AsyncClient, log: EventLog) -> None:
    assert (await client.get("/api/log")).json()["first_at"] is None
    await some_runs(log, client)
    told = (await client.get("/api/log")).json()
    assert told["position"] == await log.head()
    assert told["first_at"] <= told["newest_at"]


async def test_the_settings_have_a_page(client: httpx.AsyncClient) -> None:
    page = (await client.get("/settings")).text
    assert "HOURLY_RETENTION_HOURS" in page
    assert "every 1 h" in page
    assert "password" not in page.lower()
