"""The stack of compose.yaml for a test, under a name of its own: whatever engine there is, and an address of its own.

Everything goes through the engine's own commands. Images that are here are used; others are pulled, where they can be.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from services.embedded.sshd import free_port, make_key
from shared.adapters import process

ROOT: Final = Path(__file__).parents[2]
FILES: Final = ("compose.yaml", "tests/e2e/compose/hosts.yaml")
IMAGE: Final = "backup-manager:test"
BUILD_SECONDS: Final = 600.0
PULL_SECONDS: Final = 120.0
COMMAND_SECONDS: Final = 180.0
PATIENCE_SECONDS: Final = 120.0
PASSWORD: Final = "three brown horses"
SSHD: Final = """\
Port 22
HostKey /sshd/host_key
AuthorizedKeysFile /sshd/authorized_keys
PidFile none
UsePAM no
UseDNS no
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
MaxStartups 1000
MaxSessions 1000
"""
FAST: Final = "[bus]\nack_wait_seconds = 6\nheartbeat_seconds = 1\nretry_seconds = 1\noffline_retry_seconds = 1\n"
PUBLISH: Final = """\
import asyncio, pathlib, sys
from shared.adapters.bus_client import BusUser, KeyedClient
async def main():
    key = BusUser("operator", pathlib.Path("/run/secrets/backup-manager/nats.nk"))
    client = await KeyedClient.plainly("nats://nats:4222", key)
    await client.publish(sys.argv[1], b"")
    await client.drain()
asyncio.run(main())
"""


async def why_not() -> str:
    """Why the stack cannot be tried here; empty when it can."""
    if os.geteuid() != 0:
        return "the stack is tried by root only, who may read what it wrote"
    if shutil.which("docker") is None:
        return "there is no docker here"
    if (await process.run(["docker", "info"], timeout_seconds=30)).returncode != 0:
        return "no Docker engine answers here"
    if not await compose_command():
        return "there is neither docker compose 2 nor docker-compose here"
    wanted = [*re.findall(r"image: ([a-z]+:\S+)", (ROOT / FILES[0]).read_text()), "python:3.13-slim-bookworm"]
    for image in sorted(set(wanted)):
        if (await process.run(["docker", "image", "inspect", image], timeout_seconds=30)).returncode == 0:
            continue
        if (await process.run(["docker", "pull", "-q", image], timeout_seconds=PULL_SECONDS)).returncode != 0:
            return f"the image {image} is not here and cannot be pulled"
    return ""


async def compose_command() -> list[str]:
    """How compose is called here; empty when it is not there."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is not None:
            tried = await process.run([*command, "version"], timeout_seconds=30)
            if tried.returncode == 0:
                return command
    return []


async def build_image() -> None:
    """The product's image, from this checkout; quick when nothing changed."""
    environ = os.environ | {"DOCKER_BUILDKIT": "0"}  # the engine's own builder is in every one; buildx is not
    argv = ["docker", "build", "-q", "-f", "deploy/Dockerfile", "-t", IMAGE, "."]
    done = await process.run(argv, timeout_seconds=BUILD_SECONDS, env=environ, cwd=ROOT)
    if done.returncode != 0:
        raise AssertionError(f"The image cannot be built: {done.stdout.decode()}{done.stderr.decode()}")


@dataclass
class Stack:
    """A running stack. `place` has the drive, what is restored, and a folder of sources for each host."""

    place: Path
    hosts: Sequence[str]
    compose: Sequence[str]
    port: int
    environ: dict[str, str]
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def project(self) -> str:
        return self.environ["COMPOSE_PROJECT_NAME"]

    def source(self, host: str) -> Path:
        """The folder whose `home` is backed up."""
        return self.place / "source" / host

    def snapshots(self, host: str) -> list[Path]:
        """Its snapshot folders on the drive, oldest first."""
        hourly = self.place / "drive" / host / "hourly"
        return sorted(hourly.iterdir()) if hourly.exists() else []

    async def run(self, *words: str, check: bool = True, seconds: float = COMMAND_SECONDS) -> process.Finished:
        """A command of compose."""
        argv = [*self.compose, *(word for name in FILES for word in ("-f", str(ROOT / name))), *words]
        done = await process.run(argv, timeout_seconds=seconds, env=self.environ, cwd=ROOT)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(words)}: {done.stdout.decode()}{done.stderr.decode()}")
        return done

    async def cli(self, *words: str) -> process.Finished:
        """Run the command line in the client's container, which is quicker than one of its own."""
        (client,) = await self.containers("client")
        done = await self.execute(client, "backup-manager", *words)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout.decode()}{done.stderr.decode()}"
        return done

    async def up(self, *, snapshotters: int = 1) -> None:
        """Start what does not run."""
        await self.run("up", "-d", "--scale", f"snapshotter={snapshotters}")

    async def containers(self, service: str) -> list[str]:
        """The ids of the running containers of a service."""
        labels = (f"project={self.project}", f"service={service}", "oneoff=False")
        filters = [word for label in labels for word in ("--filter", f"label=com.docker.compose.{label}")]
        done = await process.run(["docker", "ps", "-q", *filters], timeout_seconds=30)
        return done.stdout.decode().split()

    async def inspect(self, container: str) -> dict[str, Any]:
        """What the engine knows of a container."""
        done = await process.run(["docker", "inspect", container], timeout_seconds=30)
        found: list[dict[str, Any]] = json.loads(done.stdout or b"[]")
        return found[0] if found else {}

    async def execute(self, container: str, *words: str) -> process.Finished:
        """A command in a running container."""
        return await process.run(["docker", "exec", container, *words], timeout_seconds=COMMAND_SECONDS)

    async def kill(self, container: str) -> None:
        """kill -9 for everything in a container but its first process, which then ends too.

        From inside: what is killed by the engine's own command counts as stopped, and stays so.
        """
        await self.execute(container, "sh", "-c", "kill -9 -1")

    async def publish(self, subject: str) -> None:
        """Publish as a client that is not ours. Raises AssertionError when the bus does not take it."""
        (client,) = await self.containers("client")
        done = await self.execute(client, "python", "-c", PUBLISH, subject)
        assert done.returncode == 0, done.said

    async def ask(self, path: str, **params: object) -> Any:
        """What the API answers. Waits while it is away."""
        base = f"http://127.0.0.1:{self.port}"
        async with asyncio.timeout(PATIENCE_SECONDS), httpx.AsyncClient(base_url=base, timeout=30) as client:
            while True:
                with suppress(httpx.TransportError):
                    answer = await client.get(path, params=params, headers=self.headers)  # type: ignore[arg-type]  # numbers and strings
                    if answer.status_code not in {502, 503}:
                        answer.raise_for_status()
                        return answer.json()
                await asyncio.sleep(0.2)

    async def log_in(self) -> None:
        """Make an admin and a token of theirs by the command line; from then on `ask` has it."""
        reading, writing = os.pipe()
        os.write(writing, f"{PASSWORD}\n".encode())
        os.close(writing)
        argv = [*self.compose, *(word for name in FILES for word in ("-f", str(ROOT / name)))]
        argv += ["run", "--rm", "-T", "cli", "users", "add", "alice", "--role", "admin"]
        async with await process.start(argv, env=self.environ, cwd=ROOT, stdin=reading) as adding:
            os.close(reading)
            async with asyncio.timeout(COMMAND_SECONDS):
                assert await adding.wait() == 0, bytes(adding.stderr)
        token = (await self.cli("users", "token", "alice")).stdout.decode().split()[-1]
        self.headers = {"Authorization": f"Bearer {token}"}

    async def wait_for(self, wanted: Callable[[list[dict[str, Any]]], bool], *, what: str) -> list[dict[str, Any]]:
        """All events, as the API tells them, as soon as they are as wanted."""
        seen: list[dict[str, Any]] = []
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not wanted(seen):
                    after = seen[-1]["position"] if seen else 0
                    seen += await self.ask("/api/events", after=after, limit=1000, wait_seconds=5)
        except TimeoutError as error:
            words = "\n".join(str(event) for event in seen[-30:])
            raise AssertionError(
                f"{what} did not happen.\nThe last events:\n{words}\n{await self.journal()}"
            ) from error
        return seen

    async def journal(self) -> str:
        """What the services said last."""
        return (await self.run("logs", "--no-color", "--tail=20", check=False)).stdout.decode(errors="replace")


@asynccontextmanager
async def stack(place: Path, hosts: Sequence[str]) -> AsyncIterator[Stack]:
    """Images built, a drive that is a store, hosts behind a sshd; nothing else runs yet. All is gone afterwards."""
    for folder in ("drive", "restored", "config", "sshd", *(f"keys/{host}" for host in hosts)):
        (place / folder).mkdir(parents=True)
    await _make_host(place, hosts)
    port = free_port()
    environ = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_HOST") if name in os.environ} | {
        "COMPOSE_PROJECT_NAME": f"backup-e2e-{os.getpid()}",
        "BACKUP_IMAGE": IMAGE,
        "BACKUP_ROOT": str(place / "drive"),
        "BACKUP_CONFIG": str(place / "config"),
        "BACKUP_KEYS": str(place / "keys"),
        "BACKUP_RESTORED": str(place / "restored"),
        "TEST_PLACE": str(place),
        "API_PORT": f"127.0.0.1:{port}",
        "HOSTS": ",".join(hosts),
        "DOCKER_BUILDKIT": "0",  # the engine's own builder is in every one; buildx is not
        "COMPOSE_DOCKER_CLI_BUILD": "0",
    }
    made = Stack(place, hosts, await compose_command(), port, environ)
    try:
        await build_image()
        await made.run("build", "hosts", seconds=BUILD_SECONDS)  # made from the one before
        await made.run("run", "--rm", "-T", "cli", "init")
        yield made
    finally:
        await made.run("down", "--volumes", "--timeout", "5", check=False)


async def _make_host(place: Path, hosts: Sequence[str]) -> None:
    """The machine's own keys, one key for each host, and what each host was pinned to."""
    host_key = " ".join((await make_key(place / "sshd/host_key", "a host")).split()[:2])
    lines = []
    for host in hosts:
        lines.append(await make_key(place / "keys" / host / "id_ed25519", host))
        (place / "keys" / host / "known_hosts").write_text(f"{host} {host_key}\n")
    (place / "sshd/authorized_keys").write_text("".join(f"restrict {line.strip()}\n" for line in lines))
    (place / "sshd/sshd_config").write_text(SSHD)
    tables = [f'[hosts.{host}]\npaths = ["/source/{host}/./home"]\n' for host in hosts]
    (place / "config/backup.toml").write_text(FAST + "\n".join(tables))
