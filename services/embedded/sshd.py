"""A throw-away sshd on loopback, with keys of its own, below one folder.

The demonstration and the tests pull over a real SSH connection without touching the machine's own sshd. Nothing
of it survives: not `stop()`, not `kill -9` of the process that started it (as ordinary user a session that is
under way then lasts until its client hangs up; as root it ends at once).

As root, sshd insists on /run/sshd. That folder is given to it in a private mount namespace, and a process
namespace of its own makes the kernel end every session with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import re
import shutil
import socket
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from services.embedded.process_tree import end_below
from shared.adapters import process
from shared.domain.errors import BackupManagerError, ToolMissing

LOOPBACK: Final = "127.0.0.1"
READY_WITHIN_SECONDS: Final = 15.0
GONE_WITHIN_SECONDS: Final = 10.0
KEYGEN_WITHIN_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.01
PORT_ATTEMPTS: Final = 8
LOG_TAIL_BYTES: Final = 2_000
SYSTEM_FOLDERS: Final = "/usr/sbin:/usr/local/sbin:/sbin"

CONFIG: Final = """\
ListenAddress {address}:{port}
HostKey "{folder}/host_key"
AuthorizedKeysFile "{token_folder}/authorized_keys"
AllowUsers {user}
PidFile none
UsePAM no
UseDNS no
StrictModes no
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PermitTTY no
PermitUserRC no
AllowTcpForwarding no
AllowAgentForwarding no
X11Forwarding no
PrintMotd no
MaxStartups 1000
MaxSessions 1000
LogLevel INFO
Subsystem sftp internal-sftp
"""


class SshdFailed(BackupManagerError):
    """The throw-away sshd did not start or did not end. The message carries the tail of its log."""


class PortTaken(SshdFailed):
    """Somebody else listens on the port."""


class ThrowawaySshd:
    """One sshd; entering the block starts it, leaving it ends it and all its sessions.

    `port` is 0 and `host_public_key` empty until the first start; both then stay the same until
    `rotate_host_key()`. Keys found in the folder are used again. A `forced_command` replaces whatever the
    client asks for, which it finds in $SSH_ORIGINAL_COMMAND, the way `authorized_keys` does it on a real host.
    """

    def __init__(self, folder: Path, *, port: int | None = None, forced_command: str | None = None) -> None:
        if any(sign in f"{folder}{forced_command}" for sign in "\n\r") or any(c in str(folder) for c in '"\\'):
            raise ValueError("sshd cannot be told a folder with quotes, or a folder or command with a line break")
        self.folder = folder.absolute()
        self.port = port or 0
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self.host_public_key = ""
        self.client_key = self.folder / "client_key"
        self.log = self.folder / "sshd.log"
        self._port_is_fixed = port is not None
        self._forced_command = forced_command
        self._log_start_bytes = 0
        self._running: process.Running | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def pid(self) -> int | None:
        """The process that was started (as root the sandbox around sshd), or None when it is stopped."""
        return self._running.pid if self._running else None

    def known_hosts_line(self, alias: str) -> str:
        """A line for a known_hosts file, with its line break, for `HostKeyAlias=<alias>`."""
        return f"{alias} {self.host_public_key}\n"

    async def start(self) -> None:
        """Start and wait until it answers as SSH. Does nothing when it runs.

        Raises PortTaken (with a given port), SshdFailed and ToolMissing; then nothing is left running.
        """
        if self._running is not None:
            return
        await self._make_keys()
        for attempt in range(PORT_ATTEMPTS):
            if not self._port_is_fixed:
                self.port = free_port()
            try:
                await self._start_on_port()
                break
            except PortTaken:
                if self._port_is_fixed or attempt == PORT_ATTEMPTS - 1:
                    raise
        self._port_is_fixed = True  # like a real host, it comes back under the same address

    async def stop(self) -> None:
        """End sshd and its sessions, and wait until they are gone. Raises SshdFailed when they do not go."""
        running, self._running = self._running, None
        if running is None:
            return
        try:
            if running.returncode is None:
                await end_below(running.pid)
            if sandbox(self.folder):
                # bwrap notices that sshd is gone, reaps it and ends; ended by us it would leave that to init.
                await asyncio.wait_for(running.wait(), GONE_WITHIN_SECONDS)
        except TimeoutError as error:
            raise SshdFailed(f"Processes of the sshd on port {self.port} do not end.") from error
        finally:
            await running.end(grace_seconds=GONE_WITHIN_SECONDS)

    async def rotate_host_key(self) -> None:
        """Stop, make a new host key, and start on the same port: what a replaced machine looks like."""
        await self.stop()
        for name in ("host_key", "host_key.pub"):
            (self.folder / name).unlink(missing_ok=True)
        await self.start()

    async def _make_keys(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        host_key = await make_key(self.folder / "host_key", "throw-away host")
        client_key = await make_key(self.client_key, "throw-away client")
        self.host_public_key = " ".join(host_key.split()[:2])
        options = "restrict"
        if self._forced_command is not None:
            options += ',command="{}"'.format(self._forced_command.replace('"', '\\"'))
        (self.folder / "authorized_keys").write_text(f"{options} {client_key}")

    async def _start_on_port(self) -> None:
        sshd = find_sshd()
        config = self.folder / "sshd_config"
        config.write_text(await self._config(sshd))
        argv = [*sandbox(self.folder), sshd, "-D", "-e", "-f", str(config)]
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._log_start_bytes = os.fstat(descriptor).st_size
        try:
            wrapped = process.dying_with_parent(argv)
            self._running = await process.start(wrapped, stdout=asyncio.subprocess.DEVNULL, stderr=descriptor)
        finally:
            os.close(descriptor)
        try:
            await self._until_ready(self._running)
        except BaseException:
            await self.stop()
            raise

    async def _config(self, sshd: str) -> str:
        text = CONFIG.format(
            address=LOOPBACK,
            port=self.port,
            folder=self.folder,
            token_folder=str(self.folder).replace("%", "%%"),
            user=self.user,
        )
        version = re.search(
            r"OpenSSH_(\d+)\.(\d+)", (await process.run([sshd, "-V"], timeout_seconds=KEYGEN_WITHIN_SECONDS)).said
        )
        if version and (int(version[1]), int(version[2])) >= (9, 8):
            text += "PerSourcePenalties no\n"  # a test of refused keys must not lock the next test out
        return text

    async def _until_ready(self, running: process.Running) -> None:
        """Its own word that it listens comes first: the banner alone could be another sshd's."""
        listening = f"Server listening on {LOOPBACK} port {self.port}."
        try:
            async with asyncio.timeout(READY_WITHIN_SECONDS):
                while listening not in (said := self._log_tail()):
                    if running.returncode is not None:
                        raise self._failure(said)
                    await asyncio.sleep(POLL_SECONDS)
                await read_banner(self.port)
        except (OSError, TimeoutError) as error:
            raise SshdFailed(f"sshd does not answer on {LOOPBACK}:{self.port}. It said: {self._log_tail()}") from error

    def _failure(self, said: str) -> SshdFailed:
        if "Address already in use" in said:
            return PortTaken(f"Port {self.port} is taken.", "Choose another port, or none to get a free one.")
        return SshdFailed(f"sshd did not start. It said: {said or 'nothing'}")

    def _log_tail(self) -> str:
        """What it said since this start, at most the last 2,000 bytes."""
        with self.log.open("rb") as log:
            log.seek(max(self._log_start_bytes, self.log.stat().st_size - LOG_TAIL_BYTES))
            return log.read().decode(errors="backslashreplace").strip()


def find_sshd() -> str:
    """The absolute path of sshd, which insists on being called by it. Raises ToolMissing."""
    found = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:{SYSTEM_FOLDERS}")
    if found is None:
        raise ToolMissing("The program sshd is not installed.", "Install openssh-server; it need not run.")
    return str(Path(found).absolute())


def sandbox(folder: Path) -> list[str]:
    """What goes before sshd: nothing for an ordinary user; for root a /run and process ids of its own.

    Raises ToolMissing when root has no bwrap.
    """
    if os.geteuid() != 0:
        return []
    if shutil.which("bwrap") is None:
        raise ToolMissing("The program bwrap is not installed.", "Install bubblewrap.")
    argv = ["bwrap", "--dev-bind", "/", "/", "--tmpfs", "/run", "--dir", "/run/sshd"]
    if folder.is_relative_to("/run"):
        argv += ["--bind", str(folder), str(folder)]
    return [*argv, "--unshare-pid", "--proc", "/proc", "--cap-add", "ALL", "--die-with-parent"]


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


async def make_key(path: Path, comment: str) -> str:
    """The public line of the ed25519 key at this path, made when there is none. Raises SshdFailed, ToolMissing."""
    public = path.with_name(f"{path.name}.pub")
    if not has_both_halves(path, public):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
        made = await process.run(argv, timeout_seconds=KEYGEN_WITHIN_SECONDS)
        if made.returncode != 0:
            raise SshdFailed(f"ssh-keygen made no key at {path}. It said: {made.said}")
    return public.read_text()


def has_both_halves(private: Path, public: Path) -> bool:
    """Whether a key is there; half a key is removed, because ssh-keygen would ask what to do with it."""
    if private.exists() and public.exists():
        return True
    private.unlink(missing_ok=True)
    return False


async def read_banner(port: int) -> None:
    """Connect and read the line with which SSH begins. Raises OSError when it is something else."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        banner = await reader.readline()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    if not banner.startswith(b"SSH-2.0-"):
        raise OSError(f"port {port} greets with {banner!r}")
