"""`demo`: the whole system on a made-up host, in a folder of its own, from nothing to two snapshots."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Final

import rich_click as click

from services.cli import session
from services.cli.demo_account import tell
from services.cli.demo_home import build_home, change_home
from services.cli.output import say
from services.embedded.sshd import ThrowawaySshd, free_port
from services.embedded.system import Connections, System
from shared.adapters import filesystem, journal
from shared.adapters.bus_client import BusUser, KeyedClient
from shared.adapters.postgres import EventLog
from shared.adapters.store import Store
from shared.config import Settings, load_settings
from shared.domain.errors import BackupManagerError
from shared.domain.events import (
    ArchiveCompleted,
    ArchiveFailed,
    GoldenCompleted,
    GoldenFailed,
    SnapshotCompleted,
    SnapshotFailed,
)
from shared.domain.messages import TRIGGER_SUBJECT
from shared.domain.names import StoreName, host_stream, parse_host_name
from shared.domain.wording import size
from shared.domain.words import in_words
from shared.domain.writers import Service

HOST: Final = parse_host_name("demo")
SNAPSHOT_TIMEOUT_SECONDS: Final = 300.0


@click.command()
@click.option("--once", is_flag=True, help="Stop after the account instead of staying up.")
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), help="A new or empty folder to use and to keep."
)
def demo(*, once: bool, folder: Path | None) -> None:
    """Show everything on a made-up host: two snapshots, what they share, and what the log says."""
    journal.configure("demo")
    session.run(_demo(folder, once=once))


async def _demo(folder: Path | None, *, once: bool) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        place = stack.enter_context(_place(folder))
        say(f"Everything happens in {place}.")
        home = await asyncio.to_thread(build_home, place / "source")
        say(f"Made a home directory of {home.regular_files:,} files, {size(home.apparent_bytes)}.")
        sshd = await stack.enter_async_context(ThrowawaySshd(place / "sshd"))
        say(f"Serving it through an SSH server of its own on port {sshd.port}.")
        settings = await asyncio.to_thread(_prepare, place, sshd)
        journal_file = stack.enter_context((place / "services.log").open("ab"))
        system = System(settings, _environment(place), output_fd=journal_file.fileno())

        async def ready(connections: Connections) -> None:
            await _story(settings, connections, place, stop)
            if once:
                stop.set()
            elif not stop.is_set():
                _invite(settings, place, connections)

        await system.run(stop, ready=ready, progress=lambda step: say(f"{step} ..."))
    say("Stopped. Nothing is left running." + ("" if folder else " The folder is gone."))
    if not once and not folder:
        say("In the other terminal: unset BACKUP_ENV_FILE BACKUP_TOML_FILE")


async def _story(settings: Settings, connections: Connections, place: Path, stop: asyncio.Event) -> None:
    log = EventLog(connections.postgres_dsn)
    try:
        say("First snapshot ...")
        first = await _next_snapshot(log, after=None, stop=stop)
        change = await asyncio.to_thread(change_home, place / "source")
        say(
            f"An hour of work: {len(change.edited)} files edited, {len(change.added)} added, {len(change.deleted)} "
            "deleted, one renamed, one with another mode, one only touched."
        )
        say("Second snapshot, asked for by an empty message on backup.trigger ...")
        await _publish_empty_trigger(connections)
        second = await _next_snapshot(log, after=first, stop=stop)
        if first is not None and second is not None:
            await tell(settings, log, HOST, first, second)
            await _tell_heavy(log, stop)
    finally:
        await log.close()


async def _tell_heavy(log: EventLog, stop: asyncio.Event) -> None:
    """Say what became of the first snapshot meanwhile: an archive, and the golden copy of this month."""
    waiting = asyncio.create_task(_heavy(log))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({waiting, stopping}, timeout=SNAPSHOT_TIMEOUT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            say("")
            for sentence in waiting.result():
                say(sentence)
    finally:
        for task in (waiting, stopping):
            task.cancel()
        await asyncio.gather(waiting, stopping, return_exceptions=True)


async def _heavy(log: EventLog) -> list[str]:
    told: dict[type, str] = {}
    async for page in log.follow(0):
        for recorded in page:
            if isinstance(recorded.event, ArchiveCompleted | GoldenCompleted | ArchiveFailed | GoldenFailed):
                told[type(recorded.event)] = in_words(recorded.event)
        if told.keys() & {ArchiveCompleted, ArchiveFailed} and told.keys() & {GoldenCompleted, GoldenFailed}:
            break
    return list(told.values())


async def _next_snapshot(
    log: EventLog, *, after: SnapshotCompleted | None, stop: asyncio.Event
) -> SnapshotCompleted | None:
    """The snapshot after another one; None when the demo is to stop."""
    waiting = asyncio.create_task(_snapshot_after(log, after))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({waiting, stopping}, timeout=SNAPSHOT_TIMEOUT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            return None
        if not waiting.done():
            raise BackupManagerError(
                "The snapshot did not come.", "services.log in the folder says why (use --folder)."
            )
        return waiting.result()
    finally:
        for task in (waiting, stopping):
            task.cancel()
        await asyncio.gather(waiting, stopping, return_exceptions=True)


async def _snapshot_after(log: EventLog, after: SnapshotCompleted | None) -> SnapshotCompleted:
    async for page in log.follow(0):
        for recorded in page:
            event = recorded.event
            if recorded.stream != host_stream(HOST):
                continue
            if isinstance(event, SnapshotFailed) and event.final:
                raise BackupManagerError(f"The snapshot failed: {event.message}", event.hint)
            if isinstance(event, SnapshotCompleted) and (after is None or event.slot > after.slot):
                return event
    raise AssertionError("following never ends by itself")


async def _publish_empty_trigger(connections: Connections) -> None:
    """What any NATS client with the operator's key may do: nothing of ours is in this."""
    client = await KeyedClient.plainly(connections.nats_url, BusUser(Service.OPERATOR, connections.nats_nkey_file))
    await client.publish(TRIGGER_SUBJECT, b"")
    await client.drain()


@contextmanager
def _place(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        if folder.is_dir() and any(folder.iterdir()):
            raise BackupManagerError(f"{folder} is not empty.", "Give a new folder.")
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.absolute()
        return
    place = Path(tempfile.mkdtemp(prefix="backup-manager-demo-"))
    place.chmod(0o711)  # as root, the database runs as a user who has to pass through here
    try:
        yield place
    finally:
        with filesystem.open_directory(place.parent) as parent:
            filesystem.remove_tree(place.name, at=parent)


def _prepare(place: Path, sshd: ThrowawaySshd) -> Settings:
    root = place / "drive"
    root.mkdir()
    Store.create(root, StoreName("main"), uuid.uuid4()).close()
    (place / "known_hosts").write_text(sshd.known_hosts_line(HOST) + "\n", encoding="ascii")
    (place / "demo.env").write_text(
        f"BACKUP_ROOT={root}\nBACKUP_DATA={place / 'data'}\nHOSTS={HOST}\nAPI_LISTEN=127.0.0.1:{free_port()}\n",
        encoding="utf-8",
    )
    (place / "backup.toml").write_text(
        f"[hosts.{HOST}]\n"
        f'address = "127.0.0.1"\nport = {sshd.port}\nuser = "{sshd.user}"\n'
        f'key = "{sshd.client_key}"\nknown_hosts = "{place / "known_hosts"}"\n'
        f'paths = ["{place / "source"}/./home"]\n',
        encoding="utf-8",
    )
    return load_settings({}, env_file=place / "demo.env", toml_file=place / "backup.toml")


def _environment(place: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "PYTHONPATH") if name in os.environ}
    return kept | {
        "BACKUP_ENV_FILE": str(place / "demo.env"),
        "BACKUP_TOML_FILE": str(place / "backup.toml"),
        "PYTHONWARNINGS": "default",
    }


def _invite(settings: Settings, place: Path, connections: Connections) -> None:
    command = shutil.which("backup-manager") or "backup-manager"
    say(f"\nIt goes on running until Ctrl-C. The dashboard: http://127.0.0.1:{settings.api_listen[1]}/")
    say("Look around from another terminal, too:")
    say(f"  export BACKUP_ENV_FILE={place}/demo.env BACKUP_TOML_FILE={place}/backup.toml")
    for words in (
        "status",
        f"snapshots {HOST}",
        "events --follow",
        "trigger --wait",
        f"plan {HOST} --at 2099-01-01",
        "audit",
    ):
        say(f"  {command} {words}")
    say("Or from any NATS client, with the operator's key:")
    say(f"  nats --server {connections.nats_url} --nkey {connections.nats_nkey_file} pub {TRIGGER_SUBJECT} ''")
