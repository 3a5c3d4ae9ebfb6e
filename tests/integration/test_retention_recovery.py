"""A run that dies or is called off anywhere: every point is whole, in the trash or gone, and log and drive agree."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from services.retention import purge as purging
from services.retention import removal
from shared.adapters.markers import MARKER_FILE
from shared.adapters.restore_points import archives, record_name, remove_unfinished
from shared.adapters.trash import bring_back, contents, throw_away
from shared.domain.errors import PointHalfGone
from shared.domain.events import (
    HostFoundOffline,
    Kind,
    PointTrashed,
    RemovalOrdered,
    RetentionAbandoned,
    RetentionCancelled,
    RetentionCompleted,
)
from shared.domain.names import snapshot_name
from shared.runtime.worker import Done
from tests.support.builders import SLOT, a_run, build
from tests.support.servers import BOUND_SECONDS, Database
from tests.support.stock import put_archive
from tests.support.thinning import EXPIRED, HOUR, START, Bench, Crash, crash, six_snapshots

pytestmark = pytest.mark.timeout(BOUND_SECONDS)

GRACE = timedelta(hours=24)
CALLED_OFF_WITHIN_SECONDS = 2.0


@pytest.fixture
async def place(database: Database, admin: asyncpg.Connection) -> AsyncIterator[Bench]:
    async with six_snapshots(database, admin) as made:
        yield made


async def died_before(place: Bench, monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> None:
    """A run that ends just before it would call this."""

    def dies(*_: object, **__: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(module, name, dies)
        with pytest.raises(Crash):
            await place.run()


async def test_a_run_that_died_between_order_and_move_is_done_again(
    place: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await died_before(place, monkeypatch, removal, "throw_away")
    assert EXPIRED[0] in place.drive().points
    await place.run()
    assert len(await place.events(RetentionAbandoned)) == 1
    assert len(await place.events(RemovalOrdered)) == 3
    await place.agree()


async def test_a_run_that_died_between_move_and_word_is_heard_of_later(
    place: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await died_before(place, monkeypatch, removal, "trashed_event")
    assert EXPIRED[0] not in place.drive().points
    await place.run()
    assert (await place.events(RetentionCompleted))[-1].refused == ()
    assert sorted(f"{event.kind}/{event.point}" for event in await place.events(PointTrashed)) == sorted(EXPIRED)
    await place.agree()


async def test_a_run_that_died_between_purge_and_word_is_heard_of_later(
    place: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.run()
    await place.set_time(START + GRACE + HOUR)
    await died_before(place, monkeypatch, purging, "purged_event")
    await place.run()
    assert sorted(await place.purged()) == sorted(EXPIRED)
    await place.agree()


async def test_a_run_that_died_while_it_purged_goes_on_with_what_is_left_and_nothing_half_comes_back(
    place: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.run()
    await place.set_time(START + GRACE + HOUR)
    await died_before(place, monkeypatch, purging, "remove_tree")
    half = next(found for found in contents(place.folder) if found.key == EXPIRED[0])
    assert not (place.path / ".trash" / str(half.run) / "snapshot" / half.name / MARKER_FILE).exists()
    with pytest.raises(PointHalfGone):
        bring_back(place.folder, half)
    await place.run()
    assert sorted(await place.purged()) == sorted(EXPIRED)
    await place.agree()


async def test_a_word_that_could_not_be_said_is_not_said_twice(place: Bench) -> None:
    place.log.once_after(PointTrashed, crash)  # the log has it, and the spool still keeps it
    with pytest.raises(Crash):
        await place.run()
    await place.run()
    await place.agree()


async def test_what_somebody_brought_back_without_a_word_is_not_taken_for_purged(place: Bench) -> None:
    await place.run()
    found = next(found for found in contents(place.folder) if found.key == EXPIRED[0])
    bring_back(place.folder, found)
    await place.run_at(START + HOUR)
    assert EXPIRED[0] in place.drive().points
    assert await place.purged() == []
    await place.agree()


async def test_the_archiver_leaves_the_record_of_an_archive_that_is_on_its_way_to_the_trash(place: Bench) -> None:
    put_archive(place.folder, SLOT)
    (archive,) = archives(place.folder)
    run = a_run()
    throw_away(place.folder, run, Kind.ARCHIVE, archive.name)
    bin_, there = place.path / ".trash" / str(run) / "archive", place.path / "archives"
    for part in (record_name(archive.name), f"{archive.name}.sha256"):
        (bin_ / part).rename(there / part)
    assert remove_unfinished(place.folder) == 0
    bring_back(place.folder, contents(place.folder)[0])
    assert archives(place.folder) == [archive]


async def test_a_file_of_a_persons_in_the_trash_hides_nothing(place: Bench) -> None:
    await place.run()
    for found in contents(place.folder):
        (place.path / ".trash" / str(found.run) / "archive").write_text("mine")
    assert {found.key for found in contents(place.folder)} == set(EXPIRED)
    await place.run_at(START + HOUR)
    assert await place.purged() == []


async def test_what_the_log_has_not_heard_of_the_trash_counts_as_no_point(place: Bench) -> None:
    throw_away(place.folder, a_run(), Kind.SNAPSHOT, snapshot_name(SLOT))
    await place.tell(build(HostFoundOffline))
    await place.run()
    await place.agree()
    assert (await place.events(RetentionCompleted))[-1].removed == 1


# Called off


class Asked:
    """Calls off the run that is under way, and knows since when."""

    def __init__(self, place: Bench) -> None:
        self.at = 0.0
        self._place = place

    async def ask(self) -> None:
        self.at = time.monotonic()
        self._place.cancels.call_off("alice")


@pytest.fixture
def asked(place: Bench) -> Asked:
    return Asked(place)


@pytest.mark.parametrize("moment", ["before the order", "after the order", "in the move", "after the word"])
async def test_a_run_that_is_called_off_between_removals_stops_there(
    place: Bench, asked: Asked, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    match moment:
        case "before the order":
            place.log.once_before(RemovalOrdered, asked.ask)
        case "after the order":
            place.log.once_after(RemovalOrdered, asked.ask)
        case "in the move":
            called_off_in(monkeypatch, asked, removal, "throw_away")
        case "after the word":
            place.log.once_after(PointTrashed, asked.ask)
    assert await place.run() == Done()
    assert time.monotonic() - asked.at < CALLED_OFF_WITHIN_SECONDS
    assert [event.by for event in await place.events(RetentionCancelled)] == ["alice"]
    assert await place.events(RetentionCompleted) == []
    assert EXPIRED[1] in place.drive().points
    await place.agree()


def called_off_in(monkeypatch: pytest.MonkeyPatch, asked: Asked, module: object, name: str) -> None:
    """Call the run off while a thread does this."""
    loop, real = asyncio.get_running_loop(), getattr(module, name)

    def slowly(*args: object) -> object:
        asyncio.run_coroutine_threadsafe(asked.ask(), loop).result(10)
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0.05), loop).result(10)  # until it has come through
        return real(*args)

    monkeypatch.setattr(module, name, slowly)


@pytest.mark.parametrize("moment", ["while it takes the marker", "in the middle of the tree"])
async def test_a_purge_of_a_big_tree_that_is_called_off_ends_soon_and_goes_on_next_time(
    place: Bench, asked: Asked, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await place.run()
    found = next(found for found in contents(place.folder) if found.key == EXPIRED[0])
    tree = place.path / ".trash" / str(found.run) / "snapshot" / found.name
    grow(tree, 12_000)
    with monkeypatch.context() as patch:
        if moment == "while it takes the marker":
            called_off_in(patch, asked, purging, "unmark")
            await place.run_at(START + GRACE + HOUR)
        else:
            running = asyncio.create_task(place.run_at(START + GRACE + HOUR))
            await until(lambda: tree.exists() and sum(1 for _ in os.scandir(tree / "big")) < 15)
            await asked.ask()
            await running
    assert time.monotonic() - asked.at < CALLED_OFF_WITHIN_SECONDS
    assert [event.by for event in await place.events(RetentionCancelled)] == ["alice"]
    assert await place.purged() == []
    assert tree.exists()
    assert not (tree / MARKER_FILE).exists()
    await place.agree()
    await place.run_at(START + GRACE + 2 * HOUR)
    assert EXPIRED[0] in await place.purged()
    await place.agree()


def grow(tree: Path, files: int) -> None:
    for folder in range(20):
        inner = tree / "big" / str(folder)
        inner.mkdir(parents=True)
        for number in range(files // 20):
            os.mknod(inner / str(number))


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110  # the drive tells nobody
        await asyncio.sleep(0.002)
