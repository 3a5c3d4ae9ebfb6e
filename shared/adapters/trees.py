"""Large trees: linked and removed by several processes at once.

Processes, because threads of one Python wait for each other: two of them removed a tree more slowly than one. Each
is a `tree_worker` with a socket to here. It works on a stack of folders; here is only known who has nothing left,
and then the others are asked to give some away. So a skewed tree is shared like an even one.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from shared.adapters import process, tree_worker
from shared.adapters.beneath import Opener, make_searchable
from shared.adapters.threads import in_thread
from shared.domain.errors import BackupManagerError

POLL_SECONDS: Final = 0.1
"""How often `busy` is asked."""

BOOT: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from shared.adapters import tree_worker as w; w.main(sys.argv[2:])"
)
CODE: Final = Path(__file__).parents[2]
"""What `shared` lies in: a checkout or site-packages. The processes start without looking for either (-I, -S)."""


class WorkerLost(BackupManagerError):
    """A process that worked on a tree ended without a word, as when somebody kills it."""


@dataclass(frozen=True, slots=True)
class Linked:
    """What a link copy consists of; the top itself is not counted."""

    files: int
    directories: int
    symlinks: int
    others: int


def never_busy() -> bool:
    """For who may use the drive as much as it can bear."""
    return False


async def link_tree(
    source: int, target: int, *, processes: int = 2, pass_fds: Sequence[int] = (), skip: frozenset[bytes] = frozenset()
) -> Linked:
    """Make a hard-link copy of all that is below one open directory in another one, which is empty.

    Directories are made anew, with the mode, owner, modification time, extended attributes and access lists of the
    old ones; those of `target` itself stay. Nothing in `source` changes but the number of links of its files.
    Names in `skip` are left out at the top. The processes inherit `pass_fds`, so locks outlive this one with them.

    Raises OSError that names an entry below the top: EXDEV when something is mounted in the source, EMLINK when a
    file has as many names as its file system allows, and WorkerLost. What was linked by then stays in the target.
    """
    words = ["link", "{line}", str(source), str(target)]
    if skip:
        words.append("/".join(os.fsdecode(name) for name in sorted(skip)))
    async with _crew(words, processes, [source, target, *pass_fds], never_busy) as crew:
        return Linked(*await crew.work())


async def remove_tree(
    name: str,
    *,
    at: int,
    processes: int = 2,
    pass_fds: Sequence[int] = (),
    busy: Callable[[], bool] = never_busy,
) -> int:
    """Remove a directory with all that is in it; returns how many entries went.

    Symbolic links are removed, not followed. Killed anywhere, it is only called again. While `busy` says so, which
    is asked every POLL_SECONDS, one process works, with short rests, and the others wait.

    Raises OSError that names an entry below the top: EXDEV when something is mounted inside; and WorkerLost.
    """
    removed = 0
    while True:
        async with (
            _opened(name, at) as top,
            _crew(["remove", "{line}", str(top)], processes, [top, *pass_fds], busy) as crew,
        ):
            (now,) = await crew.work()
        removed += now
        try:
            await in_thread(os.rmdir, name, dir_fd=at)
        except OSError as error:
            # Somebody put something in meanwhile.
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST} or not now:
                raise
        else:
            return removed + 1


@asynccontextmanager
async def _opened(name: str, at: int) -> AsyncIterator[int]:
    def open_it() -> int:
        make_searchable(name, at=at)
        return Opener().open(name, at)

    descriptor = await in_thread(open_it)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@dataclass(slots=True, eq=False)
class _Worker:
    """A process, and what is known of it. `asked` means that it has been asked for a folder and gave none yet.

    `pace` is what it was last told: to wait, or how fast to go.
    """

    line: socket.socket
    running: process.Running
    counts: list[int] = field(default_factory=list)
    idle: bool = True
    asked: bool = False
    pace: bytes = tree_worker.FULL

    @property
    def working(self) -> bool:
        """Whether it is doing something now."""
        return not self.idle and self.pace != tree_worker.WAIT

    def go(self, pace: bytes) -> None:
        """Tell it how fast to go, unless it knows."""
        if self.pace != pace:
            self.tell(pace)
            self.pace = pace

    def tell(self, message: bytes) -> None:
        """Send a message; a process that is gone is noticed by who listens to it."""
        try:
            self.line.send(message)
        except (BrokenPipeError, ConnectionResetError):
            return


@asynccontextmanager
async def _crew(
    words: list[str], processes: int, descriptors: Sequence[int], busy: Callable[[], bool]
) -> AsyncIterator[_Crew]:
    """The processes, started; whatever of them is still there at the end of the block is ended."""
    crew = _Crew(busy)
    try:
        for _ in range(processes):
            await crew.add(words, descriptors)
        yield crew
    finally:
        await crew.end()


class _Crew:
    """Shares the folders out, until nobody has any."""

    def __init__(self, busy: Callable[[], bool]) -> None:
        self._busy = busy
        self._workers: list[_Worker] = []
        self._folders: deque[bytes] = deque([b""])
        self._heard: asyncio.Queue[tuple[_Worker, bytes] | None] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._slow = False

    async def add(self, words: Sequence[str], descriptors: Sequence[int]) -> None:
        """Start one more process. Raises OSError and ToolMissing."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            ours.setblocking(False)
            given = [str(theirs.fileno()) if word == "{line}" else word for word in words]
            argv = [sys.executable, "-I", "-S", "-X", "utf8", "-c", BOOT, str(CODE), *given]
            running = await process.start(
                process.dying_with_parent(argv),
                pass_fds=(theirs.fileno(), *descriptors),
                stdout=asyncio.subprocess.DEVNULL,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        worker = _Worker(ours, running)
        self._workers.append(worker)
        self._tasks.append(asyncio.create_task(self._listen(worker), name="what a tree worker says"))

    async def work(self) -> list[int]:
        """Let them work until nothing is left; returns the sums of their counts."""
        self._tasks.append(asyncio.create_task(self._tick(), name="is the drive busy"))
        self._slow = self._busy()
        self._steer()
        while self._folders or not all(worker.idle for worker in self._workers):
            heard = await self._heard.get()
            if heard is None:
                self._slow = self._busy()
            else:
                self._hear(*heard)
            self._steer()
        counts = [worker.counts for worker in self._workers if worker.counts]
        return [sum(numbers) for numbers in zip(*counts, strict=True)]

    async def end(self) -> None:
        """End what is still there."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self._workers:
            worker.line.close()  # those that have nothing to do end by that
        await asyncio.gather(*(worker.running.end(grace_seconds=1.0) for worker in self._workers))

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            self._heard.put_nowait(None)

    async def _listen(self, worker: _Worker) -> None:
        message = b"."
        while message:
            try:
                message = await asyncio.get_running_loop().sock_recv(worker.line, 2 * tree_worker.MESSAGE_BYTES)
            except ConnectionResetError:
                # It ended without reading everything; what it said last comes after this.
                continue
            self._heard.put_nowait((worker, message))

    def _hear(self, worker: _Worker, message: bytes) -> None:
        kind, said = message[:1], message[1:]
        if kind == tree_worker.GIVEN:
            worker.asked = False
            self._folders.append(said)
        elif kind == tree_worker.IDLE:
            worker.idle, worker.asked = True, False
            worker.counts = [int(number) for number in said.split()]
        elif kind == tree_worker.FAILED:
            number, _, about = said.partition(b" ")
            raise OSError(int(number), os.strerror(int(number)), os.fsdecode(about))
        else:
            how = bytes(worker.running.stderr).decode(errors="backslashreplace").strip()
            raise WorkerLost(f"A process that worked on a tree has ended: {how or 'it was killed'}.", "Try again.")

    def _steer(self) -> None:
        """Have as many of them at work as may be, hand out what was given, and ask for more when one has nothing."""
        pace = tree_worker.SLOW if self._slow else tree_worker.FULL
        limit = 1 if self._slow else len(self._workers)
        at_work = [worker for worker in self._workers if worker.working]
        for worker in at_work[limit:]:
            worker.go(tree_worker.WAIT)
        for worker in at_work[:limit]:
            worker.go(pace)
        free = limit - len(at_work)
        # Who has to wait comes first: others can have new work, but nobody else has his.
        for worker in sorted(self._workers, key=lambda worker: worker.idle):
            if free > 0 and not worker.working and self._set_to_work(worker, pace):
                free -= 1
        if free > 0 and not self._folders:
            for worker in self._workers:
                if worker.working and not worker.asked:
                    worker.tell(tree_worker.GIVE)
                    worker.asked = True

    def _set_to_work(self, worker: _Worker, pace: bytes) -> bool:
        if worker.idle and not self._folders:
            return False
        worker.go(pace)
        if worker.idle:
            worker.tell(tree_worker.WORK + self._folders.popleft())
            worker.idle = False
        return True
