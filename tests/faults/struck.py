"""A worker in a process of its own that is struck when it reaches a milestone: killed, made to fail, or stopped.

The processes are forked from one that has everything imported and no threads, which saves a second each time.
"""

from __future__ import annotations

import asyncio
import errno
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from services.archiver.handler import Archiver
from services.cli import trash
from services.restorer.handler import Restorer
from services.retention.handler import Retention
from services.snapshotter.handler import Snapshotter
from services.snapshotter.rsync import Ability
from shared.adapters import milestones
from shared.adapters.clock import SystemClock
from shared.adapters.postgres import EventLog
from shared.adapters.store import Store
from shared.config import Settings
from shared.domain.errors import BackupManagerError
from shared.domain.events import Job
from shared.domain.messages import Tick
from shared.domain.names import HostName
from shared.runtime.host_log import HostLog
from shared.runtime.outbox import Outbox
from tests.support.thinning import OwnCancels

DONE, FAILED, BROKEN = 0, 10, 11
WITHIN_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.005


class Effect(StrEnum):
    """What happens to a process that reaches a milestone."""

    KILL = "kill"
    RAISE = "raise"
    STALL = "stall"


@dataclass(frozen=True)
class Given:
    """What a worker is to do, and where it is struck. `undelete` is the key of a point instead of a tick."""

    settings: Settings
    tick: Tick
    clock: SystemClock
    ability: Ability
    milestone: str
    effect: Effect
    notes: Path
    undelete: str = ""

    @property
    def reached(self) -> Path:
        """Has a line for each milestone that was reached."""
        return self.notes / "reached"

    @property
    def said(self) -> Path:
        """What the process said that ended badly."""
        return self.notes / "said"


class Struck:
    """Such a process, from its start to its end."""

    def __init__(self, given: Given) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._given = given
        given.reached.write_text("")
        given.said.write_text("")
        self._process = context.Process(target=_work, args=(given,))
        self._process.start()

    def stopped(self) -> bool:
        """Wait until it has stopped itself, or ended; whether it is stopped."""
        until = time.monotonic() + WITHIN_SECONDS
        while self._process.exitcode is None:
            if _state(self._process.pid) == "T":
                return True
            if time.monotonic() > until:
                raise AssertionError("It neither stops nor ends.")
            time.sleep(_POLL_SECONDS)
        return False

    def go_on(self) -> None:
        """Wake it up."""
        os.kill(self._process.pid or 0, signal.SIGCONT)

    def outcome(self) -> int:
        """Wait for its end; its exit code, negative for a signal."""
        self._process.join(WITHIN_SECONDS)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
            raise AssertionError("It does not end.")
        return code


def _state(pid: int | None) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _work(given: Given) -> None:
    try:
        _listen(given)
        asyncio.run(_handle(given))
    except* (BackupManagerError, OSError) as errors:
        _leave(given, FAILED, errors)
    except* BaseException as errors:  # noqa: BLE001  # whatever it is, the test has to know
        _leave(given, BROKEN, errors)
    os._exit(DONE)


def _leave(given: Given, code: int, error: BaseException) -> None:
    given.said.write_text(f"{type(error).__name__}: {error}")
    os._exit(code)


def _listen(given: Given) -> None:
    note = os.open(given.reached, os.O_WRONLY | os.O_APPEND)
    struck = False

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal struck
        if event != milestones.EVENT:
            return
        os.write(note, f"{arguments[0]}\n".encode())
        if arguments[0] == given.milestone and not struck:
            struck = True
            _EFFECTS[given.effect]()

    sys.addaudithook(hear)


def _fail() -> None:
    raise OSError(errno.EIO, "struck")


_EFFECTS: Final[dict[Effect, Callable[[], None]]] = {
    Effect.KILL: lambda: os.kill(os.getpid(), signal.SIGKILL),
    Effect.RAISE: _fail,
    Effect.STALL: lambda: os.kill(os.getpid(), signal.SIGSTOP),
}


async def _handle(given: Given) -> None:
    if given.undelete:
        await trash._undelete(given.settings, HostName(given.tick.host), given.undelete)
        return
    store = Store.open(given.settings.backup_root, given.tick.store)
    events = EventLog(given.settings.postgres_dsn)
    log, cancels = HostLog(events, Outbox(store, events)), OwnCancels(events)
    common = (given.settings, store, log, cancels)
    handlers: dict[Job, Callable[[], Any]] = {
        Job.SNAPSHOT: lambda: Snapshotter(*common, given.ability, given.clock, "struck"),
        Job.ARCHIVE: lambda: Archiver(*common, given.clock, "struck"),
        Job.RETENTION: lambda: Retention(*common, given.clock, "struck"),
        Job.RESTORE: lambda: Restorer(*common, given.clock, "struck"),
    }
    try:
        await handlers[given.tick.job]().handle(given.tick)
    finally:
        await events.close()
        store.close()
