"""`kill -9` of every part, each in the middle of a run."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.cli.demo_change import change_home
from services.cli.demo_home import build_home
from shared.domain.events import (
    Recorded,
    SnapshotAbandoned,
    SnapshotCompleted,
    SnapshotFailed,
    SnapshotStarted,
)
from tests.support.installation import Installation, installation, of_type
from tests.support.trees import Tree, differences, snapshot_of

HOST = "web"
SLOW = "bandwidth_limit_kib = 4000\n"
"""Slow enough that a run can be caught in the middle: four seconds for the video."""

VIDEO_BYTES = 16_000_000


def status(pid: int | None) -> str:
    return Path(f"/proc/{pid}/status").read_text()


def excluded(path: bytes) -> bool:
    return b"/.cache" in path


@asynccontextmanager
async def mid_run(place: Path) -> AsyncIterator[tuple[Installation, dict[str, Tree]]]:
    """A system with one finished snapshot, in the middle of its second run; and the trees kept so far."""
    async with asyncio.timeout(200), installation(place, [HOST], host_toml=SLOW) as system:
        home = build_home(system.source(HOST), files=300)
        (system.source(HOST) / os.fsdecode(home.sparse_file)).unlink()  # its holes count as bytes to be limited
        await system.start()
        await system.wait_for(lambda events: len(of_type(events, SnapshotCompleted)) == 1, what="The first snapshot")
        kept = {path.name: snapshot_of(path) for path in system.snapshots(HOST)}
        big = system.source(HOST) / "home/alice/new-video.bin"
        big.write_bytes(os.urandom(VIDEO_BYTES))
        change_home(system.source(HOST))
        await system.one_more_run(HOST, until=SnapshotStarted)
        await transferring(system)
        yield system, kept


async def transferring(system: Installation) -> None:
    """Wait until the second run has written something that only a transfer writes."""
    await system.wait_for(lambda events: len(of_type(events, SnapshotStarted)) == 2, what="The start of the second run")
    async with asyncio.timeout(30):
        while not any(growing(system)):  # noqa: ASYNC110  # rsync tells nobody
            await asyncio.sleep(0.01)


def growing(system: Installation) -> Iterator[Path]:
    """The temporary file of the video that is being received."""
    for partial in system.folder(HOST).glob(".partial-*"):
        yield from (found for found in partial.glob("home/alice/.new-video.bin.*") if found.stat().st_size > 0)


async def assert_mended(system: Installation, kept: dict[str, Tree]) -> list[Recorded]:
    """What must hold after any crash, once the run was taken up again."""
    await system.wait_for(lambda events: len(of_type(events, SnapshotCompleted)) == 2, what="The run after the crash")
    events = await system.one_more_run(HOST)
    for name, tree in kept.items():
        assert differences(tree, snapshot_of(system.folder(HOST) / "hourly" / name)) == []
    newest = system.snapshots(HOST)[-1]
    expected = snapshot_of(system.source(HOST) / "home", exclude=excluded)
    assert differences(expected, snapshot_of(newest / "home")) == []
    assert (system.folder(HOST) / "current").readlink() == Path("hourly") / newest.name
    assert list(system.folder(HOST).glob(".partial-*")) == []
    assert all((path / ".snapshot_complete").exists() for path in system.snapshots(HOST))
    slots = [str(recorded.event.slot) for recorded in of_type(events, SnapshotCompleted)]  # type: ignore[union-attr]  # only these have slots
    assert len(set(slots)) == len(slots) == 3
    audit = await system.cli("audit")
    assert "All is well." in audit.stdout.decode()
    return events


async def test_snapshotter_killed_in_the_middle_of_a_run(place: Path) -> None:
    async with mid_run(place) as (system, kept):
        assert system.system is not None
        assert system.system.supervisor is not None
        pid = system.system.supervisor.pid("snapshotter-1")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        events = await assert_mended(system, kept)
        assert len(of_type(events, SnapshotAbandoned)) == 1
        assert of_type(events, SnapshotFailed) == []


async def test_the_services_that_run_are_held_to_what_they_may_write(place: Path) -> None:
    async with mid_run(place) as (system, _):
        assert system.system is not None
        assert system.system.supervisor is not None
        for name in ("scheduler-1", "archiver-1", "retention-1", "restorer-1", "api-1"):
            assert "NoNewPrivs:\t1" in status(system.system.supervisor.pid(name))


async def test_rsync_killed_in_the_middle_of_a_run(place: Path) -> None:
    async with mid_run(place) as (system, kept):
        for pid in receivers(system):
            os.kill(pid, signal.SIGKILL)
        events = await assert_mended(system, kept)
        failed = of_type(events, SnapshotFailed)
        assert len(failed) == 1
        assert isinstance(failed[0].event, SnapshotFailed)
        assert not failed[0].event.final


def receivers(system: Installation) -> list[int]:
    """The rsync processes that write to the drive of this system."""
    partials = [path.name for path in system.folder(HOST).glob(".partial-*")]
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
        except (FileNotFoundError, ProcessLookupError):
            continue
        if words and words[0] == b"rsync" and any(name.encode() in word for word in words for name in partials):
            found.append(int(entry.name))
    assert found
    return found


async def test_nats_killed_in_the_middle_of_a_run(place: Path) -> None:
    async with mid_run(place) as (system, kept):
        assert system.system is not None
        assert system.system.nats is not None
        os.kill(system.system.nats.pid, signal.SIGKILL)
        events = await assert_mended(system, kept)
        assert of_type(events, SnapshotFailed) == []


async def test_postgres_killed_in_the_middle_of_a_run(place: Path) -> None:
    async with mid_run(place) as (system, kept):
        assert system.system is not None
        assert system.system.postgres is not None
        os.kill(system.system.postgres.pid, signal.SIGKILL)
        events = await assert_mended(system, kept)
        assert len(of_type(events, SnapshotStarted)) == 3
        assert of_type(events, SnapshotFailed) == []
        assert of_type(events, SnapshotAbandoned) == []


@pytest.mark.parametrize("what", ["snapshotter", "everything"])
async def test_clean_stop_in_the_middle_of_a_run_leaves_it_to_the_next_start(place: Path, what: str) -> None:
    async with mid_run(place) as (system, kept):
        if what == "everything":
            await system.stop()
            assert list(system.folder(HOST).glob(".partial-*")) == []
            await system.start()
        else:
            assert system.system is not None
            assert system.system.supervisor is not None
            pid = system.system.supervisor.pid("snapshotter-1")
            assert pid is not None
            os.kill(pid, signal.SIGTERM)
        events = await assert_mended(system, kept)
        assert of_type(events, SnapshotFailed) == []
