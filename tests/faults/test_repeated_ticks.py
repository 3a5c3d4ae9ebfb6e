"""A tick that comes again, because its answer was lost or somebody sent it twice, finds that its slot is done."""

from __future__ import annotations

import asyncpg
import pytest

from shared.domain.events import ArchiveCompleted, Event, SnapshotCompleted
from shared.domain.messages import Tick
from shared.domain.schedule import newest_slot
from tests.faults.test_clock import JOBS, TRUE_START, days
from tests.support.builders import HOST, MAIN
from tests.support.servers import Database
from tests.support.trees import differences, snapshot_of

pytestmark = pytest.mark.timeout(120)


async def test_a_tick_that_comes_again_changes_nothing_and_is_not_even_told(
    database: Database, admin: asyncpg.Connection
) -> None:
    async with days(database, admin) as lived:
        place = lived.place
        await lived.hour(TRUE_START)
        assert len(await place.events(SnapshotCompleted)) == len(await place.events(ArchiveCompleted)) == 1
        before, told = snapshot_of(place.path), await place.events(Event)
        for job in JOBS:
            await lived.handle(Tick(job, MAIN, HOST, newest_slot(1, TRUE_START)))
        assert await place.events(Event) == told
        after = snapshot_of(place.path)
        assert [it for it in differences(before, after) if ".spool" not in str(it)] == []
