"""The bus is killed, loses all it stored, or comes back as it was two minutes ago: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.domain.events import (
    BackupRequested,
    Recorded,
    RemovalOrdered,
    RequestRefused,
    SlotSkipped,
    SnapshotAbandoned,
    SnapshotCompleted,
    SnapshotFailed,
    SnapshotStarted,
)
from tests.support.installation import Installation, installation, of_type
from tests.support.places import new_place
from tests.support.servers import BOUND_SECONDS
from tests.support.trees import differences, snapshot_of

HOSTS = ("web", "db")
SLOW = "bandwidth_limit_kib = 4000\n"
LARGE_BYTES = 12_000_000


@pytest.fixture
def place() -> Iterator[Path]:
    with new_place() as folder:
        yield folder


def store_of(system: Installation) -> Path:
    """Where the bus keeps its streams."""
    return system.place / "data/nats/jetstream"


@contextmanager
def bus_process(system: Installation) -> Iterator[int]:
    """A pid descriptor of the bus."""
    assert system.system is not None
    assert system.system.nats is not None
    handle = os.pidfd_open(system.system.nats.pid)
    try:
        yield handle
    finally:
        os.close(handle)


def replaced_store(system: Installation, replace: Callable[[Path], None]) -> None:
    """Kill the bus and change what it stored before it is started again.

    Whoever starts it again lives in this very loop, which stands still meanwhile.
    """
    with bus_process(system) as handle:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        # Until it has ended it still writes there.
        ended, _, _ = select.select([handle], [], [], BOUND_SECONDS)
        assert ended
        replace(store_of(system))


def copied_store(system: Installation, target: Path) -> None:
    """Copy what the bus stored as it is at one moment: it renames and removes files all the time."""
    with bus_process(system) as handle:
        signal.pidfd_send_signal(handle, signal.SIGSTOP)
        try:
            os.waitid(os.P_PIDFD, handle, os.WSTOPPED | os.WNOWAIT)
            shutil.copytree(store_of(system), target)
        finally:
            signal.pidfd_send_signal(handle, signal.SIGCONT)


def make_homes(system: Installation) -> None:
    for host in HOSTS:
        home = system.source(host) / "home"
        home.mkdir(parents=True)
        (home / "letter").write_text(f"Dear {host}")
        (home / "large").write_bytes(os.urandom(LARGE_BYTES))


def completed(events: list[Recorded], host: str) -> int:
    return len(of_type(events, SnapshotCompleted, host))


async def assert_nothing_lost_or_doubled(system: Installation) -> None:
    """Each slot has one snapshot, each fact one event, and the drive is what the log says."""
    for host in HOSTS:
        events = await system.one_more_run(host)
        done = [str(event.event.slot) for event in of_type(events, SnapshotCompleted, host)]  # type: ignore[union-attr]
        assert len(set(done)) == len(done) == len(system.snapshots(host))
        assert of_type(events, SnapshotFailed, host) == of_type(events, RemovalOrdered, host) == []
        for kind in (SlotSkipped, BackupRequested, RequestRefused):
            told = Counter(str(event.event) for event in of_type(events, kind, host))
            assert max(told.values(), default=1) == 1, told
        newest = system.snapshots(host)[-1]
        assert differences(snapshot_of(system.source(host) / "home"), snapshot_of(newest / "home")) == []
        assert list(system.folder(host).glob(".partial-*")) == []
    assert "All is well." in (await system.cli("audit")).stdout.decode()


@pytest.mark.campaign
async def test_a_bus_that_lost_everything_in_the_middle_of_a_run_is_set_up_again(place: Path) -> None:
    async with asyncio.timeout(200), installation(place, HOSTS, host_toml=SLOW) as system:
        make_homes(system)
        await system.start()
        await system.wait_for(lambda events: len(of_type(events, SnapshotStarted)) > 0, what="The first run")
        replaced_store(system, shutil.rmtree)
        events = await system.wait_for(
            lambda events: all(completed(events, host) == 1 for host in HOSTS), what="The first snapshot of both"
        )
        assert len(of_type(events, SnapshotAbandoned)) <= 1
        await assert_nothing_lost_or_doubled(system)


@pytest.mark.campaign
async def test_a_bus_that_comes_back_as_it_was_two_minutes_ago_makes_nothing_happen_twice(place: Path) -> None:
    async with asyncio.timeout(250), installation(place, HOSTS, host_toml=SLOW) as system:
        make_homes(system)
        await system.start()
        await system.wait_for(lambda events: all(completed(events, host) == 1 for host in HOSTS), what="The first ones")
        (system.source("web") / "home/large").write_bytes(os.urandom(LARGE_BYTES))  # so the next run takes seconds
        await system.one_more_run("web", until=SnapshotStarted)
        older = place / "older"
        copied_store(system, older)  # with a tick that is being worked on
        await system.wait_for(lambda events: completed(events, "web") == 2, what="Its end")
        await system.one_more_run("db")
        await system.one_more_run("web")

        def go_back(store: Path) -> None:
            shutil.rmtree(store)
            older.rename(store)

        replaced_store(system, go_back)
        events = await system.one_more_run("db")
        assert completed(events, "web") == 3
        await assert_nothing_lost_or_doubled(system)
