"""The throw-away sshd, with the real ssh and rsync over it; nothing of it stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from services.cli.demo_home import build_home
from services.embedded.process_tree import parents, until_readable
from services.embedded.sshd import PortTaken, SshdFailed, ThrowawaySshd, free_port, make_key
from shared.adapters import process
from tests.support.trees import differences, snapshot_of

ALIAS = "nas"
WITHIN_SECONDS = 20
REPOSITORY = Path(__file__).parents[2]

# Without the window of -1, rsync compares whole seconds and leaves nanoseconds wrong, for example those of a folder
# that the source changed in the second of the copy.
EXACTLY = ("-aHXS", "--numeric-ids", "--modify-window=-1")

# Starts one and says so, then waits for ever: whoever reads the line may kill it.
OWNER = """
import asyncio, sys
from pathlib import Path
from services.embedded.sshd import ThrowawaySshd
async def main():
    async with ThrowawaySshd(Path(sys.argv[1])) as sshd:
        print(sshd.pid, sshd.port, sshd.host_public_key, sep=";", flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def ssh_command(port: int, key: Path, known_hosts: Path) -> list[str]:
    """An ssh that knows nothing of this machine's own keys and settings."""
    options = {
        "HostKeyAlias": ALIAS,
        "UserKnownHostsFile": str(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": "10",
    }
    argv = ["ssh", "-F", "none", "-i", str(key), "-p", str(port)]
    for name, value in options.items():
        argv += ["-o", f"{name}={value}"]
    return argv


class Client:
    """Somebody who has the key and knows the host."""

    def __init__(self, sshd: ThrowawaySshd, folder: Path) -> None:
        self.known_hosts = folder / "known_hosts"
        self.known_hosts.write_text(sshd.known_hosts_line(ALIAS))
        self.argv = ssh_command(sshd.port, sshd.client_key, self.known_hosts)
        self.address = f"{sshd.user}@127.0.0.1"

    async def run(self, *command: str) -> process.Finished:
        return await process.run([*self.argv, self.address, *command], timeout_seconds=WITHIN_SECONDS)

    async def start(self, *command: str) -> process.Running:
        return await process.start([*self.argv, self.address, *command])


def family_of(pid: int) -> set[int]:
    """The process and all that is below it now."""
    family = {pid}
    while more := {child for child, parent in parents() if parent in family} - family:
        family |= more
    return family


def processes_naming(folder: Path) -> list[str]:
    """The command lines of this machine that name a folder and have not ended."""
    lines = []
    for pid, _parent in parents():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in line:
            lines.append(line.replace(b"\0", b" ").decode(errors="replace"))
    return lines


async def until_gone(handles: list[int]) -> None:
    """Wait, bounded, until every process behind these pid descriptors has ended."""
    async with asyncio.timeout(WITHIN_SECONDS):
        for handle in handles:
            await until_readable(handle)
            os.close(handle)


async def until_none_names(folder: Path) -> None:
    """Wait, bounded, until no process names a folder: the kernel ends a process namespace in its own time."""
    async with asyncio.timeout(WITHIN_SECONDS):
        while processes_naming(folder):  # noqa: ASYNC110  # processes of others tell nobody
            await asyncio.sleep(0.02)


def handles_of(pid: int) -> list[int]:
    """A descriptor of each process of the family that is alive."""
    handles = []
    for member in family_of(pid):
        with contextlib.suppress(ProcessLookupError):  # one that only started others may have ended just now
            handles.append(os.pidfd_open(member))
    return handles


async def first_line(running: process.Running) -> str:
    """What a process says first."""
    said = b""
    async with asyncio.timeout(WITHIN_SECONDS):
        async for chunk in running.chunks():
            said += chunk
            if b"\n" in said:
                return said.decode().splitlines()[0]
    raise AssertionError(f"it ended without a word: {bytes(running.stderr)!r}")


async def test_the_key_opens_it(tmp_path: Path) -> None:
    async with ThrowawaySshd(tmp_path / "s s%h'd") as sshd:
        assert sshd.host_public_key.startswith("ssh-ed25519 AAAA")
        client = Client(sshd, tmp_path)
        key = tmp_path / "copied-key"  # ssh, unlike sshd, would read the percent sign in the path of the key
        key.write_bytes(sshd.client_key.read_bytes())
        key.chmod(0o600)
        client.argv[client.argv.index(str(sshd.client_key))] = str(key)
        answer = await client.run("id -un; echo $SSH_CONNECTION")
    assert answer.returncode == 0, answer.said
    assert answer.stdout.decode().split()[0] == sshd.user
    assert answer.stdout.decode().split()[-1] == str(sshd.port)


async def test_rsync_pulls_a_home_over_it(tmp_path: Path) -> None:
    build_home(tmp_path / "source", files=300)
    async with ThrowawaySshd(tmp_path / "sshd") as sshd:
        client = Client(sshd, tmp_path)
        remote = f"{client.address}:{tmp_path}/source/"
        argv = ["rsync", *EXACTLY, "-e", " ".join(client.argv), "--", remote, f"{tmp_path}/copy/"]
        finished = await process.run(argv, timeout_seconds=WITHIN_SECONDS)
    assert finished.returncode == 0, finished.said
    assert differences(snapshot_of(tmp_path / "source"), snapshot_of(tmp_path / "copy")) == []


async def test_another_key_is_refused_again_and_again(tmp_path: Path) -> None:
    async with ThrowawaySshd(tmp_path / "sshd") as sshd:
        await make_key(tmp_path / "stranger", "stranger")
        client = Client(sshd, tmp_path)
        stranger = ssh_command(sshd.port, tmp_path / "stranger", client.known_hosts)
        for _ in range(6):
            refused = await process.run([*stranger, client.address, "true"], timeout_seconds=WITHIN_SECONDS)
            assert refused.returncode == 255
            assert "Permission denied (publickey)" in refused.said
        assert (await client.run("true")).returncode == 0  # and nobody is locked out by that


async def test_a_changed_host_key_is_refused(tmp_path: Path) -> None:
    async with ThrowawaySshd(tmp_path / "sshd") as sshd:
        client = Client(sshd, tmp_path)
        assert (await client.run("true")).returncode == 0
        port, old_key = sshd.port, sshd.host_public_key
        await sshd.rotate_host_key()
        assert sshd.port == port
        assert sshd.host_public_key != old_key
        refused = await client.run("true")
        assert refused.returncode == 255
        assert "HOST IDENTIFICATION HAS CHANGED" in refused.said
        assert (await Client(sshd, tmp_path).run("true")).returncode == 0


async def test_a_forced_command_replaces_what_is_asked(tmp_path: Path) -> None:
    command = """printf '%s' "forced: $SSH_ORIGINAL_COMMAND" """
    async with ThrowawaySshd(tmp_path / "sshd", forced_command=command) as sshd:
        answer = await Client(sshd, tmp_path).run("rm", "-rf", "/nothing")
    assert answer.stdout == b"forced: rm -rf /nothing"


async def test_it_comes_back_as_the_same_host(tmp_path: Path) -> None:
    sshd = ThrowawaySshd(tmp_path / "sshd")
    assert (sshd.port, sshd.pid, sshd.host_public_key) == (0, None, "")
    await sshd.stop()  # nothing to stop
    await sshd.start()
    port, key, pid = sshd.port, sshd.host_public_key, sshd.pid
    await sshd.start()  # it runs
    assert sshd.pid == pid
    await sshd.stop()
    async with sshd:
        assert (sshd.port, sshd.host_public_key) == (port, key)
        assert (await Client(sshd, tmp_path).run("true")).returncode == 0


async def test_many_start_at_once(tmp_path: Path) -> None:
    servers = [ThrowawaySshd(tmp_path / str(number)) for number in range(6)]
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(server) for server in servers))
        assert len({server.port for server in servers}) == len(servers)
    assert processes_naming(tmp_path) == []


async def test_a_given_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        sshd = ThrowawaySshd(tmp_path / "sshd", port=taken.getsockname()[1])
        with pytest.raises(PortTaken, match=f"Port {sshd.port} is taken"):
            await sshd.start()
    assert sshd.pid is None
    assert processes_naming(tmp_path) == []


async def test_a_free_port_that_is_taken_in_between_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        lost, won = taken.getsockname()[1], free_port()
        ports = iter([lost, lost, won])
        monkeypatch.setattr("services.embedded.sshd.free_port", lambda: next(ports))  # steers the race, no more
        async with ThrowawaySshd(tmp_path / "sshd") as sshd:
            assert sshd.port == won
            assert (await Client(sshd, tmp_path).run("true")).returncode == 0


async def test_a_broken_host_key_is_an_error_that_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "sshd"
    folder.mkdir()
    for name in ("host_key", "host_key.pub"):
        (folder / name).write_text("ssh-ed25519 garbage\n")
        (folder / name).chmod(0o600)
    sshd = ThrowawaySshd(folder)
    with pytest.raises(SshdFailed, match="no hostkeys available"):
        await sshd.start()
    assert sshd.pid is None
    assert processes_naming(tmp_path) == []


@pytest.mark.parametrize("folder", ['with"quote', "with\\backslash", "with\nbreak"])
def test_a_folder_that_cannot_be_configured_is_refused(tmp_path: Path, folder: str) -> None:
    with pytest.raises(ValueError, match="sshd cannot be told"):
        ThrowawaySshd(tmp_path / folder)


async def test_stop_ends_sessions_and_what_they_started(tmp_path: Path) -> None:
    sshd = ThrowawaySshd(tmp_path / "sshd")
    await sshd.start()
    client = Client(sshd, tmp_path)
    # One part of the session leaves its process group, as a daemon does.
    async with await client.start(
        f"setsid sh -c 'echo ready; exec tail -f {tmp_path}/known_hosts >&2' & wait"
    ) as session:
        assert await first_line(session) == "ready"
        assert sshd.pid is not None
        family = family_of(sshd.pid)
        assert len(family) >= 4
        handles = [os.pidfd_open(pid) for pid in family]
        await sshd.stop()
        # No waiting: when stop() returns they have ended.
        assert family & {pid for pid, _ in parents()} == set()
        await until_gone(handles)
        assert await session.wait() == 255
    assert processes_naming(tmp_path) == []


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="a session of an ordinary user's sshd lasts until its client goes")
async def test_killing_the_owner_ends_everything(tmp_path: Path) -> None:
    owner_argv = [sys.executable, "-c", OWNER, str(tmp_path / "sshd")]
    async with await process.start(owner_argv, cwd=REPOSITORY) as owner:
        pid, port, key = (await first_line(owner)).split(";")
        (tmp_path / "known_hosts").write_text(f"{ALIAS} {key}\n")
        argv = ssh_command(int(port), tmp_path / "sshd/client_key", tmp_path / "known_hosts")
        remote = f"setsid sh -c 'echo ready; exec tail -f {tmp_path}/known_hosts >&2' & wait"
        async with await process.start([*argv, "root@127.0.0.1", remote]) as session:
            assert await first_line(session) == "ready"
            handles = handles_of(int(pid))
            assert len(handles) >= 6  # bwrap, its init, sshd, session, shell, tail
            os.kill(owner.pid, signal.SIGKILL)
            await until_gone(handles)
            assert await session.wait() == 255
    await until_none_names(tmp_path / "sshd")


async def test_killing_the_owner_of_an_idle_one_ends_it(tmp_path: Path) -> None:
    owner_argv = [sys.executable, "-c", OWNER, str(tmp_path / "sshd")]
    async with await process.start(owner_argv, cwd=REPOSITORY) as owner:
        pid = int((await first_line(owner)).split(";")[0])
        handles = handles_of(pid)
        assert handles
        os.kill(owner.pid, signal.SIGKILL)
        await until_gone(handles)
    await until_none_names(tmp_path)


def run_folder() -> tuple[list[str], int, list[str]]:
    """What is in /run of this machine, when that last changed, and what is mounted on it."""
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    names = sorted(os.listdir("/run"))
    return names, Path("/run").stat().st_mtime_ns, [line for line in mounts if line.split()[1] == "/run"]


async def test_the_run_folder_of_the_machine_is_untouched(tmp_path: Path) -> None:
    before = run_folder()
    async with ThrowawaySshd(tmp_path / "sshd") as sshd:
        assert (await Client(sshd, tmp_path).run("true")).returncode == 0
        assert run_folder() == before
    assert run_folder() == before
