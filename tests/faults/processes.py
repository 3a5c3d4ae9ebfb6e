"""A protocol in a process of its own, forked from one that has everything imported, which saves a second each time."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from shared.domain.errors import BackupManagerError
from tests.faults.drives import Here, opened
from tests.faults.protocols import Protocol

DONE, REFUSED, BROKEN, KILLED = "done", "refused", "broken", "killed"
_CODES: Final = {0: DONE, 10: REFUSED, 11: BROKEN}
PATIENCE_SECONDS: Final = 60
_PR_SET_PTRACER: Final = 0x59616D61


class _Here(ThreadPoolExecutor):
    """Does what it is given at once and in the same thread: strace counts the calls of each thread for itself."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(function(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001  # it is raised where it is waited for
            done.set_exception(error)
        return done


class Running:
    """A protocol that has its lock and waits for the word to begin."""

    def __init__(self, protocol: Protocol, root: Path, run: UUID, said: Path, *, script: Path | None = None) -> None:
        waiting, self._word = os.pipe()
        ready, telling = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._word)
            signal.alarm(PATIENCE_SECONDS)
            let_anybody_trace()
            if script is not None:
                protocol.stand_in(script)
            os._exit(_outcome(protocol, root, run, said, (telling, waiting)))
        for end in (waiting, telling):
            os.close(end)
        os.read(ready, 1)
        os.close(ready)

    def begin(self) -> None:
        """Give the word."""
        os.write(self._word, b".")
        os.close(self._word)

    def outcome(self) -> str:
        """How it ended: done, refused with an error of the product or the system, broken, or killed."""
        _, status = os.waitpid(self.pid, 0)
        if os.WIFSIGNALED(status):
            return KILLED if os.WTERMSIG(status) == signal.SIGKILL else BROKEN
        return _CODES.get(os.WEXITSTATUS(status), BROKEN)


def let_anybody_trace() -> None:
    """Some systems let a process be traced by its ancestors only, and strace is none."""
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(-1))


def _outcome(protocol: Protocol, root: Path, run: UUID, said: Path, line: tuple[int, int]) -> int:
    try:
        asyncio.run(_run(protocol, root, run, line))
    except (BackupManagerError, OSError) as error:
        said.write_text(f"{type(error).__name__}: {error}")
        return 10
    except BaseException:  # noqa: BLE001  # the end of a process
        said.write_text(traceback.format_exc())
        return 11
    return 0


async def _run(protocol: Protocol, root: Path, run: UUID, line: tuple[int, int]) -> None:
    asyncio.get_running_loop().set_default_executor(_Here())
    with opened(root) as (store, folder), folder.locked(protocol.job) as lock:
        telling, waiting = line
        os.write(telling, b".")
        os.read(waiting, 1)
        await protocol.run(Here(store, folder, lock, run))
