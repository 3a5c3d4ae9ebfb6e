"""Commands that run things: up, serve, init, provision."""

from __future__ import annotations

import asyncio
import os
import runpy
import signal
import uuid
from pathlib import Path
from typing import Final

import rich_click as click

from services.cli import session
from services.cli.output import say
from services.cli.patience import patiently
from services.embedded.secret_files import KEY, role_passwords, with_superuser
from services.embedded.system import Connections, System
from shared.adapters import journal
from shared.adapters.store import Store
from shared.config import Settings
from shared.domain.errors import BackupManagerError
from shared.domain.names import parse_store_name
from shared.runtime.provision import Provisioned, provision
from shared.runtime.stores import mounted_stores

SERVICES: Final = ("scheduler", "snapshotter", "archiver", "retention", "restorer", "api")


@click.command()
@click.option("--snapshotters", type=click.IntRange(1, 64), default=1, show_default=True, help="Snapshots at a time.")
def up(*, snapshotters: int) -> None:
    """Run everything here, with an event log and a bus of its own where none are given; Ctrl-C stops."""
    settings = session.settings_here()
    for store in mounted_stores(settings).values():
        store.close()
    journal.configure("up")
    session.run(_up(settings, snapshotters))


async def _up(settings: Settings, snapshotters: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    system = System(settings, os.environ, snapshotters=snapshotters)

    async def ready(_: Connections) -> None:
        roots = ", ".join(map(str, settings.stores.values()))
        say(f"Running for {len(settings.hosts)} host(s) on {roots}. Ctrl-C stops.")

    await system.run(stop, ready=ready, progress=say)
    say("Stopped.")


@click.command()
@click.argument("service", type=click.Choice(SERVICES))
def serve(*, service: str) -> None:
    """Run one service; NATS_URL and POSTGRES_DSN say where bus and log are."""
    runpy.run_module(f"services.{service}", run_name="__main__")  # which ends this process, and is held back as ever


@click.command()
@click.argument("path", type=click.Path(path_type=Path, file_okay=False), required=False)
@click.option("--store", default="main", show_default=True, help="The store's name.")
def init(*, path: Path | None, store: str) -> None:
    """Make an empty directory of the backup drive a store; without PATH the one that the settings name for it."""
    name = parse_store_name(store)
    root = path if path is not None else session.settings_here().root_of(name)
    made = Store.create(root.absolute(), name, uuid.uuid4())
    say(f"{made.root} is now the store {made.identity.name!r} ({made.identity.uuid}).")
    made.close()


@click.command("provision")
@click.option(
    "--wait",
    "wait_seconds",
    type=click.IntRange(0, 3600),
    default=0,
    show_default=True,
    help="Seconds to wait for database and bus to come up.",
)
@click.option(
    "--secrets",
    "secrets",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder `provision` that `backup-manager secrets` made.",
)
def provision_command(*, wait_seconds: int, secrets: Path | None) -> None:
    """Create or update the schema, the roles, the streams and the consumers, then exit.

    With --secrets every service gets a role of its own, which may append its own events and nothing else.
    """
    settings = session.settings_here()
    if not (settings.postgres_admin_dsn or settings.postgres_dsn) or not settings.nats_url:
        raise BackupManagerError(
            "NATS_URL and POSTGRES_ADMIN_DSN are not set.", "`up` needs no provisioning: it does it itself."
        )
    admin_dsn, key = settings.postgres_admin_dsn or settings.postgres_dsn, settings.nats_nkey_file
    passwords: dict[str, str] = {}
    if secrets is not None:
        passwords = role_passwords(secrets)
        admin_dsn, key = with_superuser(admin_dsn, secrets), key or secrets / KEY

    async def attempt() -> Provisioned:
        return await provision(
            settings, admin_dsn=admin_dsn, nats_url=settings.nats_url, nkey_file=key, passwords=passwords
        )

    done = session.run(patiently(attempt, wait_seconds=wait_seconds))
    say(f"Applied: {', '.join(done.migrations)}." if done.migrations else "The schema was up to date.")
    say("Streams and consumers are as declared.")
