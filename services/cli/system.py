"""Commands that run things: up, serve, init, provision."""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, cast

import rich_click as click
from click.exceptions import Exit

from services.cli import session
from services.cli.output import say
from services.embedded.system import Connections, System
from shared.adapters import journal
from shared.adapters.store import Store
from shared.config import Settings
from shared.domain.errors import BackupManagerError
from shared.domain.names import parse_store_name
from shared.runtime.provision import provision
from shared.runtime.start import start_service
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
    module = importlib.import_module(f"services.{service}.service")
    run = cast(Callable[[Settings, asyncio.Event], Awaitable[None]], module.serve)
    raise Exit(start_service(service, run))


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
def provision_command() -> None:
    """Create or update the schema, the roles, the streams and the consumers, then exit."""
    settings = session.settings_here()
    if not settings.postgres_dsn or not settings.nats_url:
        raise BackupManagerError(
            "NATS_URL and POSTGRES_DSN are not set.", "`up` needs no provisioning: it does it itself."
        )
    admin_dsn = settings.postgres_admin_dsn or settings.postgres_dsn
    done = session.run(provision(settings, admin_dsn=admin_dsn, nats_url=settings.nats_url))
    say(f"Applied: {', '.join(done.migrations)}." if done.migrations else "The schema was up to date.")
    say("Streams and consumers are as declared.")
