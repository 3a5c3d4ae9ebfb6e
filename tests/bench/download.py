"""A large file from the API against `cat FILE | nc` on loopback: the same file from memory, to the same reader.

Ours is HTTP, with everything that makes it safe: the file opened beneath its restore point, which is held meanwhile.
Where there is no nc, a program of the same making stands in for it: what it reads it sends, 64 KB at a time.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast

import uvicorn
from litestar.types import Scope

from services.api.app import make_app
from services.api.askers import Askers
from services.api.live import Live
from services.embedded.sshd import free_port
from shared.adapters import process
from shared.adapters.clock import SystemClock
from shared.domain.access import Role, User, UserName, Who, who_is
from shared.domain.event import Quality
from shared.domain.host_state import HostState, SnapshotState
from shared.domain.names import snapshot_name
from tests.bench.options import BenchmarkBroken, Options
from tests.bench.samples import Samples
from tests.bench.table import Found, compared
from tests.support.builders import HOST, SLOT, some_settings
from tests.support.stock import put_snapshot, stocked

MEGABYTES: Final = 2_000
ROUNDS: Final = 5
AT_LEAST: Final = 0.7
PIECE_BYTES: Final = 64 * 1024
READ_BYTES: Final = 1024 * 1024
START_SECONDS: Final = 30.0
REPOSITORY: Final = Path(__file__).parents[2]


async def measure(options: Options) -> Found:
    """Fetch the same file in turns. Raises BenchmarkBroken."""
    place, size = options.folder, options.size(MEGABYTES, quick=50) * 1_000_000
    (place / "data").mkdir()
    with stocked(place / "drive") as folder:
        put_snapshot(folder, SLOT)
        file = folder.path / "hourly" / snapshot_name(SLOT) / "home" / "large"
        options.say("writing the file")
        await asyncio.to_thread(_fill, file, size)
    ours, theirs = Samples(), Samples()
    async with _served(place) as port:
        for _ in range(options.rounds(ROUNDS)):
            options.say("in turns")
            theirs.add(size / 1e6 / await _from_nc(file, size))
            ours.add(size / 1e6 / await _from_us(port, size))
    row = compared("one large file", ours, theirs, unit=" MB/s", digits=0, at_least=AT_LEAST)
    yardstick = "cat | nc" if shutil.which("nc") else "cat | a stand-in for nc, which is not installed here"
    return Found(f"Downloads against {yardstick}, loopback", [row], [f"{size / 1e6:,.0f} MB, read from memory"])


def _fill(file: Path, size: int) -> None:
    piece = os.urandom(1_000_000)
    with file.open("wb") as target:
        for _ in range(size // len(piece)):
            target.write(piece)


@asynccontextmanager
async def _served(place: Path) -> AsyncIterator[int]:
    port = free_port()
    async with await _program("serve", str(place), str(port)):
        await asyncio.to_thread(_answering, port)
        yield port


def _answering(port: int) -> None:
    end = time.perf_counter() + START_SECONDS
    while time.perf_counter() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise BenchmarkBroken("The server does not answer.")


async def _from_us(port: int, size: int) -> float:
    asked = f"/download/{HOST}/{snapshot_name(SLOT)}/home/large"
    return await _read(port, f"GET {asked} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", size)


async def _from_nc(file: Path, size: int) -> float:
    port = free_port()
    reading, writing = os.pipe()
    try:
        async with await process.start(["cat", str(file)], stdout=writing), await _nc(port, reading):
            return await _read(port, "", size)
    finally:
        os.close(reading)
        os.close(writing)


async def _nc(port: int, stdin: int) -> process.Running:
    if nc := shutil.which("nc"):
        return await process.start([nc, "-N", "-l", "127.0.0.1", str(port)], stdin=stdin)
    return await _program("relay", str(port), stdin=stdin)


async def _read(port: int, request: str, size: int) -> float:
    """Seconds from asking to the last byte, as a program of its own reads them."""
    done = await process.run(
        [sys.executable, "-m", "tests.bench.download", "read", str(port), request, str(size)],
        timeout_seconds=300,
        cwd=REPOSITORY,
    )
    if done.returncode != 0:
        raise BenchmarkBroken(f"What came is not the file: {done.said}")
    return float(done.stdout)


async def _program(*words: str, stdin: int = asyncio.subprocess.DEVNULL) -> process.Running:
    argv = process.dying_with_parent([sys.executable, "-m", "tests.bench.download", *words])
    return await process.start(argv, stdin=stdin, stdout=asyncio.subprocess.DEVNULL, cwd=REPOSITORY)


def main(words: Sequence[str]) -> None:
    """The programs of this benchmark."""
    match words:
        case ["serve", place, port]:
            serve(Path(place), int(port))
        case ["relay", port]:
            relay(int(port))
        case ["read", port, request, size]:
            print(read(int(port), request.encode(), int(size)))


class Everybody(Askers):
    """Whoever asks may have everything: who they are is not what is measured."""

    async def has_users(self) -> bool:
        """There are, so any name of this machine is answered."""
        return True

    async def who(self, scope: Scope) -> Who:
        """An admin."""
        return who_is(User(UserName("everybody"), Role.ADMIN))


def serve(place: Path, port: int) -> None:
    """The API, with the state it would have read from the log."""
    nothing = cast(Any, None)
    live = Live(cast(Any, None), cast(Any, None), "", SystemClock())
    live.caught_up.set()
    name = snapshot_name(SLOT)
    live.state.hosts[HOST] = HostState(snapshots={name: SnapshotState(name, SLOT, Quality.COMPLETE, 3, 1)})
    nothing, clock = cast(Any, None), SystemClock()
    app = make_app(
        some_settings(root=place),
        live=live,
        chain=nothing,
        events=nothing,
        bus=nothing,
        clock=clock,
        askers=Everybody(nothing, clock),
        logins=cast(Any, SimpleNamespace(accounts=None)),
    )
    uvicorn.run(app, port=port, log_config=None, access_log=False, loop="uvloop")


def relay(port: int) -> None:
    """Send what comes from the standard input to who connects."""
    with socket.create_server(("127.0.0.1", port)) as listening:
        connection, _ = listening.accept()
        with connection:
            while piece := os.read(0, PIECE_BYTES):
                connection.sendall(piece)


def read(port: int, request: bytes, size: int) -> float:
    """Read everything, and see that it is as much as it should be."""
    _wait_for = time.perf_counter() + START_SECONDS
    while True:
        try:
            connection = socket.create_connection(("127.0.0.1", port))
            break
        except OSError:
            if time.perf_counter() > _wait_for:
                raise
            time.sleep(0.01)
    started, got, room = time.perf_counter(), 0, bytearray(READ_BYTES)
    with connection:
        connection.sendall(request)
        if request:
            head, rest = connection.recv(READ_BYTES).split(b"\r\n\r\n", 1)
            assert b" 200 " in head, head
            got = len(rest)
        while got < size and (count := connection.recv_into(room)):
            got += count
    if got != size:
        raise SystemExit(f"{got} bytes instead of {size}")
    return time.perf_counter() - started


if __name__ == "__main__":
    main(sys.argv[1:])
