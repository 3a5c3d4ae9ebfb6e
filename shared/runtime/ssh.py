"""One SSH connection to a host, held open while a block runs, over which programs talk through a socket.

It is made with one given key and the host's pinned host key; whoever uses the socket sees neither.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

from shared.adapters import process
from shared.config import HostSettings, Settings
from shared.domain.errors import BackupManagerError, HostUnreachable, RunFailed

CONNECT_TIMEOUT_SECONDS: Final = 15
OPEN_TIMEOUT_SECONDS: Final = 40.0
CHECK_SECONDS: Final = 0.05
SOCKETS_PREFIX: Final = "backup-ssh-"
MAX_SOCKET_BASE_BYTES: Final = 107 - len("/backup-ssh-1234567-12345678/ssh.1234567890123456")
"""Linux allows 107 bytes for the path of a socket, and ssh makes its own under a longer temporary name."""
CIPHERS: Final = (
    "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr"
)
"""AES-GCM first: a third faster than what OpenSSH would choose, with hardware for AES."""

_OFFLINE: Final = re.compile(
    r"Connection refused|Connection timed out|No route to host|Network is unreachable|Host is down"
    r"|Could not resolve hostname|Operation timed out|Connection reset|Connection closed by|kex_exchange_ident",
    re.IGNORECASE,
)
_HOST_KEY: Final = re.compile(r"Host key verification failed|HOST IDENTIFICATION HAS CHANGED|No .* host key is known")
_REFUSED: Final = re.compile(r"Permission denied|Too many authentication failures|Authentication failed")
_NO_KEY: Final = re.compile(
    r"Load key .*(No such file|error in libcrypto|invalid format)|Identity file .* not accessible"
)


@asynccontextmanager
async def ssh_connection(host: HostSettings, settings: Settings, key: Path | None = None) -> AsyncIterator[Path]:
    """The folder of the socket of a connection that is open. `key` is another one than that of backups.

    Raises HostUnreachable or RunFailed.
    """
    if not os.access(host.known_hosts_path(settings), os.R_OK):
        raise RunFailed(
            f"{host.name} has no pinned host key.", f"Run `backup-manager hosts enroll {host.name}`.", code="host_key"
        )
    with _socket_folder(run_folder(settings)) as sockets:
        _write_passwd(sockets / "passwd")
        argv = process.dying_with_parent(master_arguments(host, settings, sockets / "ssh", key))
        async with await process.start(argv, stdout=asyncio.subprocess.DEVNULL) as master:
            await _opened(host, sockets / "ssh", master)
            yield sockets


def shell_through(socket: str) -> str:
    """rsync's remote shell: ssh through the shared connection, unable to open one of its own."""
    return f"ssh -F /dev/null -S {socket} -o ControlMaster=no -o BatchMode=yes -o ProxyCommand=/bin/false"


def run_folder(settings: Settings) -> Path:
    """Where sockets and notes lie for as long as a process needs them.

    It is below the data folder, or elsewhere where that is read-only, as in a container, or its path would be too
    long for a socket.
    """
    usual = settings.data_dir / "run"
    if len(os.fsencode(usual)) <= MAX_SOCKET_BASE_BYTES:
        with suppress(OSError):
            usual.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.access(usual, os.W_OK):
                _remove_stale(usual)
                return usual
    return Path(tempfile.gettempdir())


@contextmanager
def _socket_folder(base: Path) -> Iterator[Path]:
    """A private folder for the socket."""
    prefix = f"{SOCKETS_PREFIX}{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=base, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _remove_stale(base: Path) -> None:
    """Remove the folders of workers that died without a word."""
    for folder in base.glob(f"{SOCKETS_PREFIX}*-*"):
        pid = folder.name.removeprefix(SOCKETS_PREFIX).split("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(folder, ignore_errors=True)


def master_arguments(host: HostSettings, settings: Settings, socket: Path, key: Path | None = None) -> list[str]:
    """The ssh command that holds the shared connection: a pinned host key, one key, nothing interactive."""
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(host.known_hosts_path(settings)),
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": host.name,
        "UpdateHostKeys": "no",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "ClearAllForwardings": "yes",
        "PermitLocalCommand": "no",
        "Compression": "no",
        "ConnectTimeout": str(CONNECT_TIMEOUT_SECONDS),
        "ConnectionAttempts": "1",
        "ServerAliveInterval": "15",
        "ServerAliveCountMax": "4",
        "ControlPersist": "no",
        "Ciphers": CIPHERS,
    }
    argv = ["ssh", "-F", str(host.ssh_config or "/dev/null"), "-M", "-N", "-S", str(socket)]
    argv += ["-i", str(key or host.key_path(settings)), "-p", str(host.port), "-l", host.user]
    for name, value in options.items():
        argv += ["-o", f"{name}={value}"]
    return [*argv, "--", host.address]


async def _opened(host: HostSettings, socket: Path, master: process.Running) -> None:
    ended = asyncio.create_task(master.wait())
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_SECONDS):
            # The socket appears, by a rename, when the connection is ready: ssh tells nobody when.
            while not os.access(socket, os.F_OK):
                await asyncio.wait({ended}, timeout=CHECK_SECONDS)
                if ended.done():
                    raise connection_error(host, bytes(master.stderr).decode(errors="backslashreplace"))
    except TimeoutError as error:
        raise HostUnreachable(f"{host.name} ({host.address}) did not answer in {OPEN_TIMEOUT_SECONDS:g} s.") from error
    finally:
        ended.cancel()


def connection_error(host: HostSettings, said: str) -> BackupManagerError:
    """What it means that ssh gave up, by what it said. Only what is known to mean offline is taken as such."""
    last = said.strip().splitlines()[-1][:300].rstrip(".") if said.strip() else "ssh said nothing"
    where = f"{host.name} ({host.user}@{host.address}:{host.port})"
    if _HOST_KEY.search(said):
        return RunFailed(
            f"{where} showed another host key than the pinned one.",
            f"If the host was reinstalled, run `backup-manager hosts enroll {host.name}`; if not, somebody may be "
            "in between.",
            code="host_key",
        )
    if _OFFLINE.search(said) and not _REFUSED.search(said):
        return HostUnreachable(f"{where} is offline: {last}.")
    if _REFUSED.search(said) or _NO_KEY.search(said):
        return RunFailed(
            f"{where} does not accept our key: {last}.",
            f"`backup-manager hosts enroll {host.name}` shows the line for its authorized_keys.",
            code="ssh_key",
        )
    return RunFailed(f"ssh to {where} failed: {last}.", code="ssh", transient=True)


def _write_passwd(path: Path) -> None:
    # ssh asks who it is; inside the walls there is no /etc/passwd to tell.
    path.write_text(f"receiver:x:{os.geteuid()}:{os.getegid()}::/tmp:/bin/false\n", encoding="ascii")
