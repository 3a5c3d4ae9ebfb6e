"""Commands that only look: status, snapshots, events, replay."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

import rich_click as click
from rich.text import Text

from services.cli import session
from services.cli.output import Moment, json_option, print_json, say, table
from shared.config import Settings
from shared.config.condition import WORST_FIRST, condition, detail, notes_on
from shared.domain.events import Recorded
from shared.domain.host_state import EPOCH, HostState, SnapshotState
from shared.domain.names import parse_host_name
from shared.domain.projection import State
from shared.domain.wording import ago, size
from shared.domain.words import in_words

MOMENT: Final = Moment(session.now)
STYLES: Final = {"failed": "bold red", "overdue": "bold red", "on hold": "bold yellow", "ok": "green"}


@click.command()
@json_option
def status(*, as_json: bool) -> None:
    """How every host is doing, the worst first."""
    session.run(_status(session.settings_here(), None, as_json=as_json))


@click.command("replay")
@click.option(
    "--at", type=MOMENT, help="The moment to show: 2026-03-06T08:00 (UTC) or an age such as 2h. Default: now."
)
@json_option
def replay_command(*, at: datetime | None, as_json: bool) -> None:
    """Compute the state from the event log alone, as it was at any moment."""
    if at is not None and at > session.now():
        raise click.UsageError(f"{at:%Y-%m-%d %H:%M:%S} UTC lies in the future: the log knows only what has happened.")
    session.run(_status(session.settings_here(), at or session.now(), as_json=as_json))


async def _status(settings: Settings, at: datetime | None, *, as_json: bool) -> None:
    async with session.event_log(settings) as log:
        state = await session.state_of(log, at)
    now = at or session.now()
    if as_json:
        print_json({"at": now, "position": state.position, "hosts": summaries(settings, state, now), "state": state})
        return
    if at is not None:
        say(f"As of {at:%Y-%m-%d %H:%M:%S} UTC, position {state.position} of the log.")
    show_state(settings, state, now)


def show_state(settings: Settings, state: State, now: datetime) -> None:
    """Print the hosts, the worst first."""
    names = sorted({*(host.name for host in settings.hosts), *state.hosts})
    conditions = {name: condition(settings, name, state.hosts.get(name, HostState()), now) for name in names}
    rows: list[list[str | Text]] = []
    ordered = sorted(names, key=lambda name: (WORST_FIRST.index(conditions[name]), name))
    for name in ordered:
        host = state.hosts.get(name, HostState())
        newest = host.newest()
        word = conditions[name]
        rows.append(
            [
                name,
                Text(word, style=STYLES.get(word, "")),
                ago(newest.taken_at or newest.slot if newest else None, now),
                f"{len(host.snapshots):,}",
                f"{len(host.archives):,}",
                f"{len(host.golden):,}",
                f"{newest.files:,}" if newest else "",
                size(newest.size_bytes) if newest else "",
            ]
        )
    columns = ["HOST", "STATE", "LAST GOOD", ">SNAPSHOTS", ">ARCHIVES", ">GOLDEN", ">FILES", ">SIZE"]
    table(columns, rows, empty="No hosts yet. Add them to HOSTS in .env.")
    for name in ordered:
        say(f"{name}: {detail(settings, name, state.hosts.get(name, HostState()), conditions[name], now)}")
        for note in notes_on(name, state.hosts.get(name, HostState())):
            say(f"{name}: {note}")
    if state.rejected_messages:
        say(f"{state.rejected_messages} bus messages were refused: `backup-manager events` shows them.")


def summaries(settings: Settings, state: State, now: datetime) -> list[dict[str, object]]:
    """What the table shows, for programs."""
    found: list[dict[str, object]] = []
    for name in sorted({*(host.name for host in settings.hosts), *state.hosts}):
        host = state.hosts.get(name, HostState())
        newest = host.newest()
        word = condition(settings, name, host, now)
        found.append(
            {
                "host": name,
                "state": word,
                "detail": detail(settings, name, host, word, now),
                "last_good_snapshot": newest.name if newest else None,
                "last_good_at": newest.taken_at or newest.slot if newest else None,
                "snapshots": len(host.snapshots),
                "archives": len(host.archives),
                "golden": len(host.golden),
                "notes": notes_on(name, host),
            }
        )
    return found


@click.command()
@click.argument("host")
@json_option
def snapshots(*, host: str, as_json: bool) -> None:
    """The snapshots of a host, oldest first."""
    session.run(_snapshots(session.settings_here(), parse_host_name(host), as_json=as_json))


async def _snapshots(settings: Settings, host: str, *, as_json: bool) -> None:
    async with session.event_log(settings) as log:
        state = await session.state_of(log)
    if host not in state.hosts and settings.host(host) is None:
        raise click.UsageError(f"There is no host {host!r}. `backup-manager hosts` lists them.")
    found = sorted(state.hosts.get(host, HostState()).snapshots.values(), key=lambda snapshot: snapshot.name)
    if as_json:
        print_json(found)
        return
    now = session.now()
    columns = ["SNAPSHOT (UTC)", "AGE", "QUALITY", ">FILES", ">SIZE", ">MOVED"]
    table(columns, [_snapshot_row(snapshot, now) for snapshot in found], empty=f"{host} has no snapshot yet.")


def _snapshot_row(snapshot: SnapshotState, now: datetime) -> list[str]:
    return [
        snapshot.name,
        ago(snapshot.taken_at or snapshot.slot, now),
        str(snapshot.quality),
        f"{snapshot.files:,}",
        size(snapshot.size_bytes),
        size(snapshot.transferred_bytes),
    ]


@click.command()
@click.option("--host", help="Only this host's events.")
@click.option("--since", type=MOMENT, help="Only events after this moment or younger than this age.")
@click.option("--follow", is_flag=True, help="Go on as they come, until Ctrl-C.")
@json_option
def events(*, host: str | None, since: datetime | None, follow: bool, as_json: bool) -> None:
    """The event log: everything that ever happened, in order."""
    name = parse_host_name(host) if host else None
    try:
        session.run(_events(session.settings_here(), name, since, follow=follow, as_json=as_json))
    except KeyboardInterrupt:
        say("")


async def _events(settings: Settings, host: str | None, since: datetime | None, *, follow: bool, as_json: bool) -> None:
    async with session.event_log(settings) as log:
        if host is not None and settings.host(host) is None and not await log.read_stream(f"host-{host}"):
            raise click.UsageError(f"There is no host {host!r}. `backup-manager hosts` lists them.")
        start = await log.position_at(since) if since else 0
        source = log.follow(start) if follow else log.pages(start)
        async for page in source:
            for recorded in page:
                if host is None or recorded.stream == f"host-{host}":
                    say_event(recorded, as_json=as_json)


def say_event(recorded: Recorded, *, as_json: bool) -> None:
    """Print one event on one line."""
    at = EPOCH + timedelta(microseconds=recorded.recorded_us)
    if as_json:
        print_json(
            {
                "position": recorded.position,
                "at": at,
                "stream": recorded.stream,
                "version": recorded.version,
                "event": recorded.event,
            }
        )
        return
    about = recorded.stream.removeprefix("host-")
    say(f"{recorded.position:>7}  {at:%Y-%m-%d %H:%M:%S}  {about:<16}  {in_words(recorded.event)}")
