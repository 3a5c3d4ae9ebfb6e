"""`hosts restore-key`: the key that may write on a host, which its owner adds there and takes away again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import rich_click as click

from services.cli import session
from services.cli.output import say
from shared.adapters import process
from shared.config import HostSettings, Settings
from shared.domain.errors import BackupManagerError
from shared.domain.names import parse_host_name
from shared.runtime.restore_key import authorized_keys, public_line

KEYGEN_TIMEOUT_SECONDS = 30.0


@click.command("restore-key")
@click.argument("host")
def restore_key(*, host: str) -> None:
    """Make the key by which restores may write on HOST, and show the line for its authorized_keys."""
    settings = session.settings_here()
    configured = settings.host(parse_host_name(host))
    if configured is None:
        raise click.UsageError(f"There is no host {host!r} in the settings. `backup-manager hosts` lists them.")
    if configured.transport == "local":
        raise click.UsageError(f"{host} is this machine: restore to a folder of it, with --to.")
    session.run(_restore_key(configured, settings))


async def _restore_key(host: HostSettings, settings: Settings) -> None:
    key = host.restore_key_path(settings)
    await asyncio.to_thread(_make_private_folder, key.parent)
    if not await asyncio.to_thread(key.exists):
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"backup-manager-restore-{host.name}"]
        done = await process.run([*argv, "-f", str(key)], timeout_seconds=KEYGEN_TIMEOUT_SECONDS)
        if done.returncode != 0:
            raise BackupManagerError(f"ssh-keygen made no key: {done.said[:300]}")
    line = await asyncio.to_thread(public_line, host, settings)
    say(f"To let restores write on {host.name}, put this line into {authorized_keys(host)} there:\n")
    say(f"{line}\n")
    say("It may write, and neither read nor remove. Take the line away again when nothing is to be restored:")
    say("as long as it is there, whoever takes over this server can write on that host.")


def _make_private_folder(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
