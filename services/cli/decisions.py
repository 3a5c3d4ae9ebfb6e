"""What only a person can say: call work off, trust the clock, declare a restore point lost."""

from __future__ import annotations

import contextlib
import getpass
import os
from typing import cast

import rich_click as click

from services.cli import session
from services.cli.output import say
from shared.adapters.store import Store
from shared.config import Settings
from shared.domain.errors import BackupManagerError
from shared.domain.events import ClockTrusted, Kind, NewEvent, PointLost
from shared.domain.host_state import HostState
from shared.domain.ids import derived_id
from shared.domain.inventory import clock_doubt
from shared.domain.messages import Cancel
from shared.domain.names import HostName, StoreName, host_stream, parse_host_name


@click.command()
@click.argument("host")
def cancel(*, host: str) -> None:
    """Call off what is under way or waiting for HOST. A transfer under way completes; what follows it does not."""
    settings = session.settings_here()
    session.run(_cancel(settings, parse_host_name(host)))
    say(f"Called off. `backup-manager events --host {host}` shows what it stopped.")


async def _cancel(settings: Settings, host: HostName) -> None:
    async with session.bus(settings) as bus:
        await bus.publish_cancel(Cancel(host, _me()))


@click.command("trust-clock")
@click.argument("host")
@click.option("--reason", required=True, help="How you know that the time is right; kept in the log.")
def trust_clock(*, host: str, reason: str) -> None:
    """Say that the clock of this machine is right although it jumped: until then nothing of HOST is removed."""
    settings = session.settings_here()
    session.run(_trust_clock(settings, parse_host_name(host), reason))
    say(f"Noted. The next retention run of {host} counts on the clock again.")


async def _trust_clock(settings: Settings, host: HostName, reason: str) -> None:
    async with session.event_log(settings) as log:
        state = (await session.state_of(log)).hosts.get(host, HostState())
        if not clock_doubt(state, session.now()):
            raise BackupManagerError(f"The clock is not in doubt for {host}.", "Nothing was changed.")
        identity = derived_id("clock-trusted", host, str(state.version))
        fact = ClockTrusted(reason=reason, by=_me())
        await log.append(host_stream(host), state.version, [NewEvent(identity, fact)])


@click.command()
@click.argument("host")
@click.argument("point")
@click.option("--reason", required=True, help="What became of it; kept in the log.")
def lost(*, host: str, point: str, reason: str) -> None:
    """Declare POINT of HOST lost (snapshot/2026-03-06_0800): it is in the log and not on the drive any more."""
    settings = session.settings_here()
    kind, slash, name = point.partition("/")
    if not slash or kind not in set(Kind):
        raise click.UsageError(f"{point!r} is not a restore point: snapshot/NAME, archive/NAME or golden/NAME.")
    session.run(_lost(settings, parse_host_name(host), Kind(kind), name, reason))
    say(f"Noted: {point} of {host} is lost.")


async def _lost(settings: Settings, host: HostName, kind: Kind, name: str, reason: str) -> None:
    where = {Kind.SNAPSHOT: "hourly", Kind.ARCHIVE: "archives", Kind.GOLDEN: "monthly"}[kind]
    async with session.event_log(settings) as log:
        state = (await session.state_of(log)).hosts.get(host, HostState())
        kept_on = StoreName(state.kept_on or settings.store_of(host))
        # Of a drive that is not mounted here nobody can say what is gone.
        with contextlib.closing(Store.open_to_read(settings.root_of(kept_on), kept_on)) as store:
            if (store.root / host / where / name).exists():
                raise BackupManagerError(f"{kind}/{name} is on the drive.", "Only what is gone can be declared lost.")
        if name not in cast("dict[str, object]", state.points(kind)):
            raise BackupManagerError(f"The log knows no {kind}/{name} of {host}.", "Nothing was changed.")
        identity = derived_id("lost", host, kind, name, str(state.version))
        fact = PointLost(kind=kind, point=name, reason=reason, by=_me())
        await log.append(host_stream(host), state.version, [NewEvent(identity, fact)])


def _me() -> str:
    return f"{getpass.getuser()}@{os.uname().nodename}"
