"""One reader of the log for all who watch: in order, without gaps, and with a bounded memory for each."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import cast

import pytest

from services.api import feed
from services.api.feed import Feed
from shared.adapters.postgres import EventLog
from shared.domain.events import AlertRaised, Recorded
from tests.support.builders import build, recorded

LOG = [recorded(build(AlertRaised), position, stream=f"host-{position % 3}") for position in range(1, 2_001)]


class Pages:
    """What a feed asks of the log."""

    async def pages(self, after: int, upto: int) -> AsyncGenerator[list[Recorded], None]:
        yield LOG[after:upto]


def a_feed(newest: int) -> Feed:
    made = Feed(cast("EventLog", Pages()))
    made.begin(newest)
    return made


def everybody(_: str) -> bool:
    return True


async def seen(pieces: AsyncGenerator[bytes, None], count: int) -> list[int]:
    found: list[int] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            found += [int(number) for number in re.findall(rb"id: (\d+)", await anext(pieces))]
    return found


async def test_who_was_away_for_long_is_told_everything_in_order_page_by_page() -> None:
    made = a_feed(1_800)
    pieces = made.after(100, everybody)
    assert await seen(pieces, 500) == list(range(101, 601))
    made.publish(LOG[1_800:1_900])
    rest = await seen(pieces, 1_300)
    assert rest == list(range(601, 1_901))
    made.publish(LOG[1_900:1_903])
    assert await seen(pieces, 3) == [1_901, 1_902, 1_903]


async def test_only_what_may_be_seen_is_told() -> None:
    made = a_feed(10)
    pieces = made.after(0, lambda stream: stream == "host-0")
    assert await seen(pieces, 3) == [3, 6, 9]


async def test_who_never_reads_is_cut_off_and_the_others_hear_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "FEWEST_SECONDS_BETWEEN", 0)
    made = a_feed(0)
    asleep, awake = made.after(None, everybody), made.after(None, everybody)
    for pieces in (asleep, awake):
        assert await anext(pieces) == feed.HELLO
    waiting = [asyncio.ensure_future(anext(pieces)) for pieces in (asleep, awake)]
    await asyncio.sleep(0)
    made.publish(LOG[:1])
    await asyncio.gather(*waiting)
    for _ in range(12):
        for start in range(0, 500, 100):
            made.publish(LOG[start : start + 100])
            await seen(awake, 100)
    async with asyncio.timeout(5):
        assert [piece async for piece in asleep] == []
    made.publish(LOG[1_000:1_001])
    assert await seen(awake, 1) == [1_001]


async def test_when_the_service_ends_nobody_holds_it_up() -> None:
    made = a_feed(0)
    pieces = made.after(None, everybody)
    await anext(pieces)
    following = asyncio.ensure_future(anext(pieces, None))
    await asyncio.sleep(0)
    made.end()
    assert await asyncio.wait_for(following, 5) is None
    assert [piece async for piece in made.after(None, everybody)] == [feed.HELLO]
