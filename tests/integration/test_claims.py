"""Claims of a slot: of all who read the same state of a host, one gets it, and only that one works."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.adapters.postgres import EventLog
from shared.adapters.store import Store
from shared.domain.events import Recorded, SnapshotStarted
from shared.domain.host_state import HostState
from shared.runtime.host_log import HostLog
from shared.runtime.outbox import Outbox
from tests.support.builders import HOST, MAIN, STORE_UUID, a_run, build, everything, new
from tests.support.places import new_place


@pytest.fixture
def store() -> Iterator[Store]:
    with new_place() as place:
        (place / "drive").mkdir()
        made = Store.create(place / "drive", MAIN, STORE_UUID)
        yield made
        made.close()


@pytest.fixture
def worker(store: Store, log: EventLog) -> HostLog:
    return HostLog(log, Outbox(store, log))


def claims(recorded: list[Recorded]) -> list[object]:
    return [event.event for event in recorded if isinstance(event.event, SnapshotStarted)]


async def test_of_two_claims_on_one_state_the_second_is_lost(worker: HostLog, log: EventLog) -> None:
    first, second = (build(SnapshotStarted, run=a_run(), worker=f"worker:{number}") for number in (1, 2))
    states = [await worker.read(HOST), await worker.read(HOST)]
    assert await worker.claim(HOST, states[0], new(first))
    assert not await worker.claim(HOST, states[1], new(second))
    assert await worker.outbox.drain(HOST)
    assert claims(await everything(log)) == [first]


async def test_without_a_state_the_lock_is_the_claim_and_the_log_hears_of_it(worker: HostLog, log: EventLog) -> None:
    started = build(SnapshotStarted)
    assert await worker.claim(HOST, None, new(started))
    assert claims(await everything(log)) == [started]


async def test_who_has_read_what_came_between_may_claim(worker: HostLog, log: EventLog) -> None:
    first, second = (build(SnapshotStarted, run=a_run(), attempt=number) for number in (1, 2))
    state = HostState()
    assert await worker.claim(HOST, state, new(first))
    await worker.refresh(HOST, state)
    assert await worker.claim(HOST, state, new(second))
    assert claims(await everything(log)) == [first, second]
