"""Wires the API: it follows the log, talks to the bus, knows the users, and serves pages and answers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

from services.api.app import make_app
from services.api.askers import Askers
from services.api.chain import Chain
from services.api.listening import Listening
from services.api.live import Live
from services.api.login import Logins
from shared.adapters.access import AccessStore
from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import Bus, BusUser
from shared.adapters.passwords import Passwords
from shared.adapters.postgres import EventLog
from shared.adapters.projections import Projections
from shared.config import Settings
from shared.domain.errors import LogUnavailable
from shared.runtime.accounts import LINK_LIFETIME, Accounts
from shared.runtime.watch import fail_when_closed

QUICK_START_SECONDS: Final = 1.0
"""How long nobody can connect at first; after that they are told how much of the log was read."""

log = logging.getLogger(__name__)


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until told to stop. Raises BackupManagerError when the address is taken."""
    events, store, clock = EventLog(settings.postgres_dsn), AccessStore(settings.postgres_dsn), SystemClock()
    bus = await Bus.connect(settings.nats_url, BusUser("api", settings.nats_nkey_file))
    checked = EventLog(settings.postgres_dsn)  # with connections of its own: nobody waits for a check
    saved = Projections(settings.postgres_dsn)
    live, chain = Live(events, saved, settings.postgres_dsn, clock), Chain(checked, clock)
    askers, accounts = Askers(store, clock), Accounts(store, events, Passwords(), clock)
    logins = Logins(accounts, clock)
    try:
        async with asyncio.TaskGroup() as tasks:
            endless = [
                tasks.create_task(live.run()),
                tasks.create_task(askers.wait_for_the_first(live)),
                tasks.create_task(logins.keep_telling()),
                tasks.create_task(accounts.passwords.prepare()),
            ]
            tasks.create_task(fail_when_closed(bus, stop))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(QUICK_START_SECONDS):
                    await live.caught_up.wait()
            await _offer_setup(settings, askers, accounts)
            endless.append(tasks.create_task(chain.watch()))
            app = make_app(
                settings, live=live, chain=chain, events=events, bus=bus, clock=clock, askers=askers, logins=logins
            )
            await Listening(app, settings).serve(askers.first_user, stop, live.end)
            for task in endless:
                task.cancel()
    finally:
        await bus.close()
        await asyncio.gather(*(one.close() for one in (store, events, checked, saved)))


async def _offer_setup(settings: Settings, askers: Askers, accounts: Accounts) -> None:
    """While there is no user: say in the journal how to make the first one. No event: nobody did anything."""
    try:
        if await askers.has_users():
            return
        link = await accounts.make_setup_link(None)
    except LogUnavailable as error:
        log.warning("The users are not known: %s", error)
        return
    hours = LINK_LIFETIME.total_seconds() / 3600
    log.info("There are no users yet. This makes the first admin, once, within %g hours:", hours)
    log.info("%s/setup/%s", settings.local_url(), link)
    log.info("Where that address cannot be opened, as in a container, `users add NAME --role admin` does the same.")
