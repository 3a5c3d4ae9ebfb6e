"""The embedded nats-server, with the real one: who may in, what it takes, and what it keeps."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.aio.client import Client
from nats.js.api import StreamConfig

from services.embedded.directory import ServerFailed, ServerRefused
from services.embedded.nats import EmbeddedNats
from shared.adapters import process

REPOSITORY = Path(__file__).parents[2]
BOUND_SECONDS = 60
OVERSIZED_BYTES = 2 * 1024 * 1024

HOLDER = """
import asyncio, os, pathlib, sys
from services.embedded.nats import EmbeddedNats
async def main():
    async with EmbeddedNats(pathlib.Path(sys.argv[1])) as server:
        os.write(1, b"%d %d\\n" % (server.pid, server.port))
        await server.wait()
asyncio.run(main())
"""


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedNats]:
    async with asyncio.timeout(BOUND_SECONDS), EmbeddedNats(tmp_path) as running:
        yield running


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    async def ignore(_: Exception) -> None:
        """What the test expects to fail must not be printed as well."""

    client = Client()
    try:
        await client.connect(url, allow_reconnect=False, connect_timeout=5, error_cb=ignore)
        yield client
    finally:
        await client.close()


async def keep(url: str, body: bytes) -> None:
    async with connected(url) as client:
        jetstream = client.jetstream()
        await jetstream.add_stream(StreamConfig(name="KEPT", subjects=["kept"]))
        await jetstream.publish("kept", body)


async def kept(url: str) -> bytes | None:
    async with connected(url) as client:
        return (await client.jetstream().get_last_msg("KEPT", "kept")).data


def listening_addresses(port: int) -> set[str]:
    """Who listens on a port, as the kernel writes addresses: 0100007F is 127.0.0.1."""
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    rows = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}


def modes(*paths: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in paths}


async def test_nobody_gets_in_without_the_token(server: EmbeddedNats) -> None:
    for wrong in (f"nats://127.0.0.1:{server.port}", f"nats://wrong@127.0.0.1:{server.port}"):
        with pytest.raises(nats.errors.Error, match="Authorization Violation"):
            async with connected(wrong):
                pass
    async with connected(server.url) as client:
        assert (await client.jetstream().account_info()).streams == 0


async def test_token_configuration_and_log_are_private(server: EmbeddedNats, tmp_path: Path) -> None:
    home = tmp_path / "nats"
    assert (home / "token").read_text().strip() in server.url
    assert modes(home / "token", home / "nats.conf", home / "server.log", home / "lock") == {0o600}
    assert modes(home) == {0o700}


async def test_it_listens_on_loopback_only(server: EmbeddedNats) -> None:
    assert listening_addresses(server.port) == {"0100007F"}


async def test_an_oversized_message_gets_through(server: EmbeddedNats, tmp_path: Path) -> None:
    body = b"x" * OVERSIZED_BYTES
    await keep(server.url, body)
    assert await kept(server.url) == body
    assert "[WRN]" not in (tmp_path / "nats" / "server.log").read_text()


async def test_what_was_accepted_survives_a_kill_and_clients_find_their_way_back(server: EmbeddedNats) -> None:
    await keep(server.url, b"before")
    url, back = server.url, asyncio.Event()

    async def reconnected() -> None:
        back.set()

    async def ignore(_: Exception) -> None:
        """The connection breaks on purpose."""

    client = await nats.connect(
        url, max_reconnect_attempts=-1, reconnect_time_wait=0.05, reconnected_cb=reconnected, error_cb=ignore
    )
    os.kill(server.pid, signal.SIGKILL)
    assert await server.wait() == -signal.SIGKILL
    await server.start()
    assert server.url == url
    await asyncio.wait_for(back.wait(), BOUND_SECONDS)
    assert (await client.jetstream().get_last_msg("KEPT", "kept")).data == b"before"
    await client.close()


async def test_a_new_object_on_the_same_directory_has_the_same_token_and_state(tmp_path: Path) -> None:
    async with EmbeddedNats(tmp_path) as first:
        await keep(first.url, b"kept")
        token = first.url.partition("@")[0]
    async with EmbeddedNats(tmp_path) as second:
        assert second.url.partition("@")[0] == token
        assert await kept(second.url) == b"kept"


async def test_a_given_port_is_used_and_one_that_is_taken_is_explained(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        with pytest.raises(ServerFailed, match=r"(?s)ended with exit code 1.*address already in use"):
            await EmbeddedNats(tmp_path, port=port).start()
    async with EmbeddedNats(tmp_path, port=port) as server:
        assert server.port == port
        assert server.url.endswith(f"@127.0.0.1:{port}")


async def test_a_second_server_on_the_same_store_is_refused_and_the_first_lives_on(
    server: EmbeddedNats, tmp_path: Path
) -> None:
    with pytest.raises(ServerRefused, match=f"already running in .*, pid {server.pid}"):
        await EmbeddedNats(tmp_path).start()
    await keep(server.url, b"alive")


async def test_kill_9_of_the_program_ends_the_server_and_the_next_start_works(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", HOLDER, str(tmp_path)]
    async with asyncio.timeout(BOUND_SECONDS), await process.start(argv, cwd=REPOSITORY) as holder:
        first_pid, port = (await anext(holder.chunks())).split()
        holder.send_signal(signal.SIGKILL)
        async with EmbeddedNats(tmp_path, port=int(port)) as server:
            assert server.pid != int(first_pid)
            await keep(server.url, b"kept")


async def test_a_stopped_server_has_no_address(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path)
    await server.stop()
    with pytest.raises(ServerRefused, match="not started"):
        _ = server.url
