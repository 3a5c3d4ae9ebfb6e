"""`restore`: have a snapshot back, or parts of it; `restores`: what became of it."""

from __future__ import annotations

import getpass
import os
from typing import Final
from uuid import UUID

import rich_click as click
from click.exceptions import Exit
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from services.cli import session
from services.cli.output import console, json_option, print_json, say, table
from shared.adapters.postgres import EventLog
from shared.config import HostSettings, Settings
from shared.domain.events import (
    AnyEvent,
    Recorded,
    RestoreAbandoned,
    RestoreCancelled,
    RestoreCompleted,
    RestoreFailed,
    RestoreProgressed,
    RestoreRequested,
    RestoreStarted,
)
from shared.domain.host_state import HostState
from shared.domain.names import parse_host_name
from shared.domain.restore_request import TO_FOLDER, TO_HOST, encode_path
from shared.domain.restore_state import RestoreState
from shared.domain.wording import ago, size
from shared.domain.words import in_words
from shared.runtime.restores import RestoreWish, ask, call_off, checked

OF_ONE: Final = (
    RestoreRequested,
    RestoreStarted,
    RestoreProgressed,
    RestoreCompleted,
    RestoreFailed,
    RestoreCancelled,
    RestoreAbandoned,
)


@click.command()
@click.argument("host")
@click.argument("snapshot")
@click.argument("paths", nargs=-1)
@click.option("--to", "folder", help="A folder on this server: one of RESTORE_FOLDERS, or below one.")
@click.option("--to-host", is_flag=True, help="Back to the host, into a fresh directory beside the original.")
@click.option("--over-original", is_flag=True, help="With --to-host: over the original. Replaced files are kept aside.")
@click.option("--confirm", default="", help="The host's name, for --over-original where nobody can be asked.")
@click.option("--wait", is_flag=True, help="Wait for the outcome; exit 1 unless all of it was restored and verified.")
@json_option
def restore(
    *,
    host: str,
    snapshot: str,
    paths: tuple[str, ...],
    folder: str | None,
    to_host: bool,
    over_original: bool,
    confirm: str,
    wait: bool,
    as_json: bool,
) -> None:
    """Restore PATHS of HOST from SNAPSHOT: its name, a golden month, or `latest`. All of it when no path is named.

    A path is one inside the snapshot, such as home/alice/letter.txt.
    """
    if to_host == (folder is not None):
        raise click.UsageError("Say where to: --to FOLDER on this server, or --to-host.")
    settings, named = session.settings_here(), parse_host_name(host)
    configured = settings.host(named)
    if configured is None:
        raise click.UsageError(f"There is no host {host!r}. `backup-manager hosts` lists them.")
    if over_original and not confirm and not as_json:
        confirm = click.prompt(f"This replaces files on {host}. Type its name to go on", default="", show_default=False)
    wish = RestoreWish(
        point=snapshot,
        paths=tuple(encode_path(os.fsencode(path)) for path in paths),
        target=TO_HOST if to_host else TO_FOLDER,
        folder=folder or "",
        over_original=over_original,
        confirm=confirm,
    )
    if not session.run(_restore(settings, configured, wish, wait=wait, as_json=as_json)):
        raise Exit(1)


async def _restore(settings: Settings, host: HostSettings, wish: RestoreWish, *, wait: bool, as_json: bool) -> bool:
    async with session.event_log(settings) as log:
        state = (await session.state_of(log)).hosts.get(host.name, HostState())
        start = await log.head()
        restore = await ask(log, host, state, checked(wish, host, state, settings), me())
        if not wait:
            if as_json:
                print_json({"restore": restore})
            else:
                say(f"Asked for: restore {restore}. `backup-manager restores {host.name}` shows how it goes.")
            return True
        outcome = await _follow(log, start, host.name, restore, quiet=as_json)
    if as_json:
        print_json(outcome)
    return isinstance(outcome, RestoreCompleted)


async def _follow(log: EventLog, start: int, host: str, restore: UUID, *, quiet: bool) -> AnyEvent:
    """Wait for the end of a restore, showing how far it is."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeRemainingColumn(), console=console(), transient=True, disable=quiet) as shown:
        bar = shown.add_task("waiting", total=100)
        async for page in log.follow(start):
            for recorded in page:
                event = recorded.event
                if recorded.stream != f"host-{host}" or not isinstance(event, OF_ONE) or event.restore != restore:
                    continue
                _show(shown, bar, recorded, quiet=quiet)
                if isinstance(event, RestoreCompleted | RestoreCancelled) or getattr(event, "final", False):
                    return event
    raise AssertionError("following never ends by itself")


def _show(shown: Progress, bar: TaskID, recorded: Recorded, *, quiet: bool) -> None:
    event = recorded.event
    if isinstance(event, RestoreProgressed):
        shown.update(bar, completed=event.percent, description=event.stage)
    elif not quiet:
        shown.console.print(in_words(event), markup=False, highlight=False, soft_wrap=True)


@click.command()
@click.argument("host")
@click.option("--cancel", "cancelled", type=click.UUID, help="Call this restore off.")
@json_option
def restores(*, host: str, cancelled: UUID | None, as_json: bool) -> None:
    """The restores of HOST, newest first."""
    settings, name = session.settings_here(), parse_host_name(host)
    configured = settings.host(name)
    if configured is None:
        raise click.UsageError(f"There is no host {host!r}. `backup-manager hosts` lists them.")
    if cancelled is not None:
        session.run(_cancel(settings, configured, cancelled))
        say("Called off.")
        return
    found = session.run(_restores(settings, name))
    if as_json:
        print_json(found)
        return
    now = session.now()
    rows = [
        [
            str(one.restore),
            one.point,
            ago(one.requested_at, now),
            one.outcome,
            size(one.transferred_bytes),
            _detail(one),
        ]
        for one in found
    ]
    table(["RESTORE", "FROM", "ASKED", "STATE", ">SIZE", ""], rows, empty=f"Nothing of {host} was ever restored.")


async def _restores(settings: Settings, host: str) -> list[RestoreState]:
    async with session.event_log(settings) as log:
        state = (await session.state_of(log)).hosts.get(host, HostState())
    return sorted(state.restores.values(), key=lambda one: one.restore.int, reverse=True)


async def _cancel(settings: Settings, host: HostSettings, restore: UUID) -> None:
    async with session.event_log(settings) as log, session.bus(settings) as bus:
        await call_off(log, bus, host, restore, me())


def _detail(one: RestoreState) -> str:
    if one.outcome == "running":
        return f"{one.stage} {one.percent} %"
    return ", ".join(one.places) or f"{one.message} {one.hint}".strip()


def me() -> str:
    """Who is asking."""
    return f"{getpass.getuser()}@{os.uname().nodename}"
