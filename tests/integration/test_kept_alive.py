"""A server of ours that ends is started again, for as long as it takes, whatever keeps it from starting."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest

from services.embedded import system
from services.embedded.directory import ServerFailed, ServerRefused
from services.embedded.system import _keep_alive
from shared.domain.errors import ToolMissing

REASONS = [
    ServerFailed("It does not answer."),
    ServerRefused("Another server is about to end there."),
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "lock"),
    OSError(errno.EIO, os.strerror(errno.EIO), "server.log"),
    ToolMissing("The program setpriv is not installed."),
]


class Reluctant:
    """Ends at once, does not start for each of the reasons, and then runs for ever."""

    def __init__(self) -> None:
        self.reasons = list(REASONS)
        self.up = asyncio.Event()

    async def start(self) -> None:
        if self.reasons:
            raise self.reasons.pop(0)
        self.up.set()

    async def wait(self) -> int:
        if self.up.is_set():
            await asyncio.Event().wait()
        return 1

    async def stop(self) -> None: ...


async def test_it_is_tried_again_whatever_kept_it_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "FIRST_DELAY_SECONDS", 0.001)
    monkeypatch.setattr(system, "LONGEST_DELAY_SECONDS", 0.001)
    server = Reluctant()

    async def again() -> None: ...

    keeping = asyncio.create_task(_keep_alive(server, again))
    async with asyncio.timeout(30):
        await asyncio.wait([keeping, asyncio.create_task(server.up.wait())], return_when=asyncio.FIRST_COMPLETED)
    assert not keeping.done()
    assert server.reasons == []
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
