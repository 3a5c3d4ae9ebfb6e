"""The embedded Postgres, with the real server: what it keeps, who may in, and what it never touches."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from services.embedded.cluster import LIBRARIES, PROGRAMS, installation
from services.embedded.directory import ACCOUNTS, ServerFailed, ServerRefused
from services.embedded.postgres import EmbeddedPostgres
from shared.adapters import process

REPOSITORY = Path(__file__).parents[2]
INSTALLED = installation()
PARTS = (PROGRAMS, LIBRARIES)
AS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not AS_ROOT, reason="only root has another user to run the server as")
BOUND_SECONDS = 60

HOLDER = """
import asyncio, os, pathlib, sys
from services.embedded.postgres import EmbeddedPostgres
async def main():
    async with EmbeddedPostgres(pathlib.Path(sys.argv[1])) as postgres:
        os.write(1, b"%d\\n" % postgres.pid)
        await postgres.wait()
asyncio.run(main())
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A directory that every user can reach, which pytest's own are not for the server's user."""
    path = Path(tempfile.mkdtemp(prefix="bm-"))
    path.chmod(0o755)
    yield path / "data"
    shutil.rmtree(path)


@pytest.fixture
async def postgres(data_dir: Path) -> AsyncIterator[EmbeddedPostgres]:
    async with asyncio.timeout(BOUND_SECONDS), EmbeddedPostgres(data_dir) as server:
        yield server


async def query(dsn: str, sql: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def write_a_note(server: EmbeddedPostgres) -> None:
    await query(server.admin_dsn, "CREATE TABLE note AS SELECT 'kept' AS text")


async def read_the_note(server: EmbeddedPostgres) -> object:
    return await query(server.admin_dsn, "SELECT text FROM note")


async def gone(pid: int) -> None:
    """Wait until a process that is not our child has ended."""
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(handle, ended.set)
        try:
            await asyncio.wait_for(ended.wait(), BOUND_SECONDS)
        finally:
            asyncio.get_running_loop().remove_reader(handle)
            os.close(handle)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND_SECONDS):
        while not condition():  # noqa: ASYNC110  # the other side is a process that tells nobody
            await asyncio.sleep(0.01)


def owner_of(pid: int) -> str:
    return Path(f"/proc/{pid}").owner()


def executable_of(pid: int) -> Path:
    return Path(f"/proc/{pid}/exe").readlink()


def sockets_of(pid: int) -> set[str]:
    links = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    return {link[8:-1] for link in links if link.startswith("socket:[")}


def tcp_sockets() -> set[str]:
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    return {line.split()[9] for table in tables if table.exists() for line in table.read_text().splitlines()}


def groups_of(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1:] for line in lines if line.startswith("Groups:"))


def installed_files() -> list[Path]:
    return [path for part in PARTS for path in (INSTALLED / part).rglob("*")]


def owned_by_root(path: Path) -> bool:
    return all(step.stat().st_uid == 0 for step in (path, *path.parents))


def modes(*paths: Path) -> dict[Path, int]:
    return {path: stat.S_IMODE(path.lstat().st_mode) for path in paths}


async def test_a_second_start_on_the_same_directory_finds_what_was_written(data_dir: Path) -> None:
    async with EmbeddedPostgres(data_dir) as first:
        await write_a_note(first)
        first_dsn = first.admin_dsn
    async with EmbeddedPostgres(data_dir) as second:
        assert await read_the_note(second) == "kept"
        assert second.admin_dsn == first_dsn


async def test_one_object_can_be_started_again_after_a_stop(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir)
    for _ in range(2):
        await server.start()
        assert await query(server.admin_dsn, "SELECT 1") == 1
        await server.stop()


async def test_the_database_for_the_log_is_there_with_bytewise_order_and_checksums(postgres: EmbeddedPostgres) -> None:
    await query(postgres.admin_dsn, "CREATE ROLE reader LOGIN PASSWORD 'p@:/ss'")
    dsn = postgres.dsn("reader", "p@:/ss")
    assert await query(dsn, "SELECT current_database()::text || ' ' || current_user") == "backup reader"
    collate = "SELECT pg_encoding_to_char(encoding) || ' ' || datcollate FROM pg_database WHERE datname = 'backup'"
    assert await query(dsn, collate) == "UTF8 C"
    for setting in ("data_checksums", "fsync", "synchronous_commit", "full_page_writes"):
        assert await query(dsn, f"SHOW {setting}") == "on", setting


async def test_nobody_gets_in_without_the_password(postgres: EmbeddedPostgres, data_dir: Path) -> None:
    password = (data_dir / "postgres" / "password").read_text().strip()
    assert password in postgres.admin_dsn
    for wrong in ("wrong", ""):
        with pytest.raises(asyncpg.PostgresError):
            await asyncpg.connect(postgres.dsn("postgres", wrong, "postgres"))
    methods = "SELECT string_agg(DISTINCT auth_method, ',') FROM pg_hba_file_rules"
    assert await query(postgres.admin_dsn, methods) == "scram-sha-256"


async def test_secrets_log_and_socket_are_private(postgres: EmbeddedPostgres, data_dir: Path) -> None:
    home = data_dir / "postgres"
    assert postgres.pid
    assert set(modes(home / "password", home / "server.log", home / "lock").values()) == {0o600}
    assert set(modes(home / "data", home / "run").values()) == {0o700}
    assert not (home / "initdb-password").exists()


async def test_it_does_not_listen_on_tcp(postgres: EmbeddedPostgres) -> None:
    assert await query(postgres.admin_dsn, "SHOW listen_addresses") == ""
    if AS_ROOT:  # the server belongs to another user: only root can look into its descriptors
        assert sockets_of(postgres.pid)
        assert not sockets_of(postgres.pid) & tcp_sockets()


@needs_root
async def test_root_runs_it_as_an_unprivileged_user(postgres: EmbeddedPostgres) -> None:
    assert owner_of(postgres.pid) in ACCOUNTS
    assert groups_of(postgres.pid) == []


async def test_after_a_killed_server_the_same_object_starts_again(data_dir: Path) -> None:
    async with asyncio.timeout(BOUND_SECONDS), EmbeddedPostgres(data_dir) as server:
        await write_a_note(server)
        os.kill(server.pid, signal.SIGKILL)
        assert await server.wait() == -signal.SIGKILL
        assert (data_dir / "postgres" / "data" / "postmaster.pid").exists()
        await server.start()
        assert await read_the_note(server) == "kept"


async def test_kill_9_of_the_program_shuts_the_server_down_and_the_next_start_works(data_dir: Path) -> None:
    argv = [sys.executable, "-c", HOLDER, str(data_dir)]
    async with asyncio.timeout(BOUND_SECONDS), await process.start(argv, cwd=REPOSITORY) as holder:
        server_pid = int((await anext(holder.chunks())).strip())
        holder.send_signal(signal.SIGKILL)
        async with EmbeddedPostgres(data_dir) as server:
            assert await query(server.admin_dsn, "SELECT 1") == 1
        await gone(server_pid)
    assert "received fast shutdown request" in (data_dir / "postgres" / "server.log").read_text()


async def test_a_pid_file_whose_number_now_belongs_to_another_program_is_no_obstacle(data_dir: Path) -> None:
    pid_file = data_dir / "postgres" / "data" / "postmaster.pid"
    async with EmbeddedPostgres(data_dir) as server:
        owner = owner_of(server.pid)
        lines = pid_file.read_text().splitlines()
    command = process.dying_with_parent(["sleep", "300"], user=owner if AS_ROOT else None)
    async with await process.start(command) as stranger, asyncio.timeout(BOUND_SECONDS):
        # Until setpriv has changed the user, Postgres would not take the process for one of its own.
        await until(lambda: executable_of(stranger.pid).name == "sleep")
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:], ""]))
        async with EmbeddedPostgres(data_dir) as server:
            assert await query(server.admin_dsn, "SELECT 1") == 1
        assert stranger.returncode is None


async def test_a_second_server_is_refused_and_the_first_lives_on(postgres: EmbeddedPostgres, data_dir: Path) -> None:
    with pytest.raises(ServerRefused, match=f"already running in .*, pid {postgres.pid}"):
        await EmbeddedPostgres(data_dir).start()
    with pytest.raises(ServerRefused, match="already running"):
        await postgres.start()
    assert await query(postgres.admin_dsn, "SELECT 1") == 1


async def test_a_server_that_somebody_else_started_there_is_refused_and_lives_on(data_dir: Path) -> None:
    cluster = data_dir / "postgres" / "data"
    async with EmbeddedPostgres(data_dir) as server:
        owner = owner_of(server.pid)
    argv = [
        str(INSTALLED / PROGRAMS / "bin" / "postgres"),
        "-D",
        str(cluster),
        "-k",
        str(cluster),
        "-c",
        "listen_addresses=",
    ]
    command = process.dying_with_parent(argv, signal_name="INT", user=owner if AS_ROOT else None)
    async with await process.start(command, cwd=data_dir) as foreign, asyncio.timeout(BOUND_SECONDS):
        await until((cluster / ".s.PGSQL.5432").exists)
        with pytest.raises(ServerFailed, match=f"(?s)postmaster.pid.*PID {foreign.pid}"):
            await EmbeddedPostgres(data_dir).start()
        assert foreign.returncode is None
        foreign.send_signal(signal.SIGINT)
        assert await foreign.wait() == 0


@needs_root
async def test_a_parent_that_the_servers_user_cannot_enter_is_named_and_left_alone(data_dir: Path) -> None:
    shut = data_dir.parent / "shut"
    shut.mkdir(mode=0o700)
    with pytest.raises(ServerRefused, match=rf"cannot enter {shut}\. Run `chmod o\+x {shut}`"):
        await EmbeddedPostgres(shut / "deeper" / "data").start()
    assert modes(shut) == {shut: 0o700}


@needs_root
async def test_no_mode_outside_the_data_directory_is_changed(data_dir: Path) -> None:
    outside = [*data_dir.parents, INSTALLED, *INSTALLED.parents, *installed_files()]
    before = modes(*outside)
    async with EmbeddedPostgres(data_dir):
        pass
    assert modes(*outside) == before


@needs_root
@pytest.mark.parametrize("everything", [True, False], ids=["the whole folder", "one file of it"])
async def test_programs_that_the_servers_user_cannot_read_are_copied_once(data_dir: Path, everything: bool) -> None:
    private = data_dir.parent / "private"
    for part in PARTS:
        shutil.copytree(INSTALLED / part, private / part, symlinks=True)
    shut = private if everything else private / PROGRAMS / "share" / "postgres.bki"
    shut.chmod(0o700)
    copied_at = set()
    for _ in range(2):
        async with EmbeddedPostgres(data_dir, installed=private) as server:
            running = executable_of(server.pid)
            assert running.is_relative_to(data_dir / "postgres")
            assert await query(server.admin_dsn, "SELECT 1") == 1
            copied_at.add(running.stat().st_ctime_ns)
            assert owned_by_root(running)
    assert len(copied_at) == 1
    assert modes(shut) == {shut: 0o700}


async def test_where_a_path_is_too_long_for_a_socket_it_lives_below_tmp_until_the_stop(data_dir: Path) -> None:
    async with EmbeddedPostgres(data_dir / ("long" * 30)) as server:
        socket_dir = Path(str(await query(server.admin_dsn, "SHOW unix_socket_directories")))
        assert socket_dir.parent == Path("/tmp")  # noqa: S108  # where the product puts it
        assert modes(socket_dir) == {socket_dir: 0o700}
    with pytest.raises(FileNotFoundError):
        modes(socket_dir)


async def test_a_path_with_spaces_and_commas_works(data_dir: Path) -> None:
    async with EmbeddedPostgres(data_dir / "my data, mine") as server:
        assert await query(server.admin_dsn, "SELECT 1") == 1


async def test_an_interrupted_initdb_is_done_again(data_dir: Path) -> None:
    half_made = data_dir / "postgres" / "data.new" / "base"
    half_made.mkdir(parents=True)
    async with EmbeddedPostgres(data_dir) as server:
        assert await query(server.admin_dsn, "SELECT 1") == 1
    assert not half_made.exists()


async def test_a_server_that_does_not_start_is_explained_by_its_log(data_dir: Path) -> None:
    async with EmbeddedPostgres(data_dir):
        pass
    (data_dir / "postgres" / "data" / "global" / "pg_control").unlink()
    with pytest.raises(ServerFailed, match=r"(?s)ended with exit code \d.*server\.log ends with.*pg_control"):
        await EmbeddedPostgres(data_dir).start()


async def test_a_lost_password_is_said_and_nothing_is_made_anew(data_dir: Path) -> None:
    async with EmbeddedPostgres(data_dir) as server:
        await write_a_note(server)
    password_file = data_dir / "postgres" / "password"
    kept = password_file.read_text()
    password_file.unlink()
    with pytest.raises(ServerRefused, match="password of the database"):
        await EmbeddedPostgres(data_dir).start()
    password_file.write_text(kept)
    async with EmbeddedPostgres(data_dir) as server:
        assert await read_the_note(server) == "kept"
