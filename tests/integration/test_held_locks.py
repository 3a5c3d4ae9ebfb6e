"""Who works for a store is known from the locks, without taking any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from shared.adapters.held_locks import JobsUnderWay
from shared.adapters.store import Store
from shared.domain.events import Job
from shared.domain.names import HostName
from tests.support.builders import MAIN, STORE_UUID
from tests.support.places import new_place

HOSTS = [HostName("a"), HostName("b")]


@pytest.fixture
def store() -> Iterator[Store]:
    with new_place() as place:
        (place / "drive").mkdir()
        with closing(Store.create(place / "drive", MAIN, STORE_UUID)) as made:
            for host in HOSTS:
                with made.folder(host) as folder:
                    for job in Job:
                        with folder.locked(job):
                            pass
            yield made


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("job", [Job.SNAPSHOT, Job.ARCHIVE])
def test_a_job_under_way_is_seen_while_its_lock_is_held(store: Store, host: HostName, job: Job) -> None:
    under_way = JobsUnderWay(store)
    assert not under_way()
    with store.folder(host) as folder, folder.locked(job):
        assert under_way()
    assert not under_way()


def test_the_retention_itself_is_nobody_to_wait_for(store: Store) -> None:
    with store.folder(HOSTS[0]) as folder, folder.locked(Job.RETENTION):
        assert not JobsUnderWay(store)()


def test_asking_keeps_nobody_from_the_lock(store: Store) -> None:
    under_way = JobsUnderWay(store)
    for _ in range(100):
        under_way()
        with store.folder(HOSTS[0]) as folder, folder.locked(Job.SNAPSHOT):
            pass


def test_where_the_kernel_does_not_tell_nobody_is_waited_for(store: Store) -> None:
    with store.folder(HOSTS[0]) as folder, folder.locked(Job.SNAPSHOT):
        assert not JobsUnderWay(store, locks=Path("/nonexistent"))()
