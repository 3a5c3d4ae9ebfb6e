"""Work in a thread can be watched and stopped; what it says of the names it knows takes eight bytes each."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.restorer.compare import Covered
from services.restorer.watch import Stopped, Watch, watched


async def nobody(_: Watch) -> None:
    pass


async def test_a_cancelled_comparison_ends_its_thread() -> None:
    began, ended = threading.Event(), threading.Event()

    def compare(watch: Watch) -> None:
        try:
            while True:
                began.set()
                watch.go_on()
                time.sleep(0.001)
        except Stopped:
            ended.set()
            raise

    comparing = asyncio.create_task(watched(compare, nobody))
    assert await asyncio.to_thread(began.wait, 10)
    comparing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await comparing
    assert ended.is_set()


async def test_what_the_work_says_and_what_it_raises_comes_through() -> None:
    assert await watched(lambda watch: watch.files, nobody) == 0

    def fail(_: Watch) -> None:
        raise OSError(5, "the drive")

    with pytest.raises(OSError, match="the drive"):
        await watched(fail, nobody)


@given(st.lists(st.binary(max_size=8)), st.lists(st.binary(max_size=8)))
def test_exactly_the_names_that_were_noted_are_known(noted: list[bytes], others: list[bytes]) -> None:
    covered = Covered()
    for name in noted:
        covered.add(name)
        assert name in covered
    assert all(name in covered for name in noted)
    assert not any(name in covered for name in others if name not in noted)
