"""Where a host is in its pipeline, as programs are told, and what the dashboard says first."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from services.api.status import Status, host_status, status_of
from services.api.view import overview
from shared.domain.events import (
    AnyEvent,
    ArchiveCancelled,
    ArchiveProgressed,
    ArchiveStarted,
    DryRunCompleted,
    RetentionCompleted,
    RetentionStarted,
    SnapshotCompleted,
    SnapshotFailed,
    SnapshotProgressed,
    SnapshotStarted,
)
from shared.domain.host_state import HostState
from shared.domain.projection import State, replay
from tests.support.builders import SLOT, a_run, build, recorded, some_settings


def told(*happened: AnyEvent) -> State:
    return replay([[recorded(event, number, version=number) for number, event in enumerate(happened, start=1)]])


def host_after(*happened: AnyEvent) -> HostState:
    return told(*happened).hosts.get("nas", HostState())


SNAPSHOT = (build(SnapshotStarted), build(SnapshotCompleted))
ARCHIVE = a_run(1)
RETENTION = a_run(2)


@pytest.mark.parametrize(
    ("happened", "status", "stage", "number"),
    [
        ((), "never", "done", 5),
        ((build(DryRunCompleted),), "dry_run_ok", "done", 5),
        ((build(DryRunCompleted, ok=False),), "dry_run", "done", 5),
        ((build(SnapshotStarted),), "running", "rsync", 1),
        (SNAPSHOT, "ok", "done", 5),
        ((build(SnapshotStarted), build(SnapshotFailed)), "failed", "done", 5),
        ((*SNAPSHOT, build(ArchiveStarted, run=ARCHIVE)), "running", "tar", 3),
        (
            (*SNAPSHOT, build(ArchiveStarted, run=ARCHIVE), build(ArchiveCancelled, run=ARCHIVE, by="alice")),
            "cancelled",
            "done",
            5,
        ),
        ((*SNAPSHOT, build(RetentionStarted, run=RETENTION)), "running", "cleanup", 5),
    ],
)
def test_the_status_says_what_runs_or_how_the_last_run_ended(
    happened: tuple[AnyEvent, ...], status: str, stage: str, number: int
) -> None:
    found = host_status(host_after(*happened))
    assert (found.status, found.stage, found.stage_num, found.stage_total) == (status, stage, number, 5)


def test_progress_is_there_while_something_runs_and_only_then() -> None:
    found = host_status(host_after(build(SnapshotStarted), build(SnapshotProgressed)))
    assert found.hourly is not None
    assert (found.hourly.files, found.hourly.percent, found.tar) == (120, 40, None)
    assert host_status(host_after(*SNAPSHOT)).hourly is None
    packing = (build(ArchiveStarted, run=ARCHIVE), build(ArchiveProgressed, run=ARCHIVE))
    archiving = host_status(host_after(*SNAPSHOT, *packing))
    assert archiving.tar is not None
    assert archiving.tar.size_bytes == 4_096


def test_finished_is_absent_while_something_runs() -> None:
    running = msgspec.to_builtins(host_status(host_after(build(SnapshotStarted))))
    assert "finished" not in running
    done = msgspec.to_builtins(host_status(host_after(*SNAPSHOT)))
    assert (done["snapshot"], done["finished"]) == ("2026-03-06_0800", "2026-03-06T08:00:02Z")


def test_a_job_runs_when_any_host_has_one() -> None:
    state = told(build(SnapshotStarted))
    assert status_of(state, ["nas", "web"]).job_running
    assert status_of(state, ["web"]) == Status(False, {"web": host_status(HostState())})


def test_what_was_removed_last_is_counted() -> None:
    events = (*SNAPSHOT, build(RetentionStarted, run=RETENTION), build(RetentionCompleted, run=RETENTION, removed=7))
    assert host_status(host_after(*events)).archives_removed == 7


def test_the_dashboard_says_the_worst_thing_first() -> None:
    settings = some_settings(["nas", "web"])
    now = SLOT + timedelta(minutes=30)
    shown = overview(settings, told(*SNAPSHOT), now)
    assert shown["sentence"] == "web needs you: it is never backed up."
    assert [card.name for card in shown["cards"]] == ["web", "nas"]
    assert overview(some_settings(["nas"]), told(*SNAPSHOT), now)["sentence"] == "nas is backed up."
    assert overview(some_settings([]), State(), now)["sentence"] == "No hosts yet: add them to HOSTS in .env."


def test_the_strip_has_a_mark_for_each_day_with_a_snapshot() -> None:
    (card,) = overview(some_settings(["nas"]), told(*SNAPSHOT), SLOT + timedelta(days=3))["cards"]
    assert len(card.days) == 30
    assert [day.date.isoformat() for day in card.days if day.kept] == ["2026-03-06"]
