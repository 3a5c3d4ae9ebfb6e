"""What can be done with users, and that the log is told of it. The dashboard and the command line do it this way.

A change and the event that tells it are one transaction; the event then goes to the log under an id of its own, so
that whoever finds it untold may tell it, twice if need be.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import msgspec

from shared.adapters.access import AccessStore
from shared.adapters.clock import SystemClock
from shared.adapters.passwords import Passwords
from shared.adapters.postgres import EventLog
from shared.adapters.secret import hash_of, new_secret, new_token
from shared.domain.access import ACCESS_STREAM, Role, User, check_password, parse_token_name, parse_user_name
from shared.domain.errors import AccessRefused, LogRefused, LogUnavailable
from shared.domain.events import (
    AnyEvent,
    LoggedIn,
    LoggedOut,
    NewEvent,
    SetupLinkMade,
    TokenMade,
    TokenRevoked,
    UserAdded,
    UserChanged,
    UserRemoved,
)
from shared.domain.ids import event_id, run_id
from shared.domain.names import parse_host_name

LINK_LIFETIME: Final = timedelta(hours=24)
ID_BITS: Final = 58

log = logging.getLogger(__name__)


class Doer(msgspec.Struct, frozen=True):
    """Who does it, and from which address; as the log is told."""

    by: str
    address: str = ""


class Accounts:
    """Adds, changes and removes; every method raises AccessRefused, NameRefused, PasswordRefused, LogUnavailable."""

    def __init__(self, store: AccessStore, events: EventLog, passwords: Passwords, clock: SystemClock) -> None:
        self.store = store
        self.passwords = passwords
        self._events = events
        self._clock = clock

    async def add(self, name: str, role: Role, hosts: Sequence[str] | None, password: str, doer: Doer) -> User:
        """Add a user. The first one must be an admin."""
        user = _checked(name, role, hosts)
        check_password(password, user.name)
        hashed = await self.passwords.hash(password)
        await self.store.add_user(user, hashed, self._clock.now(), self._added(user, doer))
        await self.tell()
        return user

    async def set_up(self, link: str, name: str, password: str, doer: Doer) -> User:
        """Add an admin by a set-up link. Raises LinkRefused when it does not hold."""
        user = _checked(name, Role.ADMIN, None)
        check_password(password, user.name)
        hashed = await self.passwords.hash(password)
        await self.store.set_up(hash_of(link), user, hashed, self._clock.now(), self._added(user, doer))
        await self.tell()
        return user

    def _added(self, user: User, doer: Doer) -> NewEvent:
        fact = UserAdded(user=user.name, role=user.role, hosts=user.hosts, by=doer.by, address=doer.address)
        return self.fact(fact)

    async def change(self, name: str, role: Role, hosts: Sequence[str] | None, doer: Doer) -> None:
        """Give a user another role or other hosts."""
        user = _checked(name, role, hosts)
        fact = UserChanged(
            user=user.name, what="the role", role=role, hosts=user.hosts, by=doer.by, address=doer.address
        )
        await self.store.change_user(user.name, role, user.hosts, self.fact(fact))
        await self.tell()

    async def set_password(self, name: str, password: str, doer: Doer) -> None:
        """Give a user another password; every session of theirs ends."""
        user = parse_user_name(name)
        check_password(password, user)
        hashed = await self.passwords.hash(password)
        fact = UserChanged(user=user, what="the password", by=doer.by, address=doer.address)
        await self.store.set_password(user, hashed, self.fact(fact))
        await self.tell()

    async def remove(self, name: str, doer: Doer) -> None:
        """Remove a user, with all sessions and tokens. The last admin stays."""
        user = parse_user_name(name)
        await self.store.remove_user(user, self.fact(UserRemoved(user=user, by=doer.by, address=doer.address)))
        await self.tell()

    async def log_in(self, user: User, address: str) -> str:
        """Begin a session; returns its secret, which nobody has seen before."""
        session = new_secret()
        fact = self.fact(LoggedIn(user=user.name, address=address))
        await self.store.start_session(hash_of(session), user.name, self._clock.now(), fact)
        await self.tell()
        return session

    async def go_on(self, name: str) -> str:
        """Begin a session for somebody who has just changed the password; returns its secret."""
        session = new_secret()
        await self.store.start_session(hash_of(session), name, self._clock.now())
        return session

    async def log_out(self, session: str, name: str, address: str) -> None:
        """End a session."""
        await self.store.end_session(hash_of(session), self.fact(LoggedOut(user=name, address=address)))
        await self.tell()

    async def make_token(self, name: str, token: str, doer: Doer) -> str:
        """A token for a program; returns its secret, which cannot be shown again."""
        user, token = parse_user_name(name), parse_token_name(token)
        secret = new_token()
        fact = self.fact(TokenMade(user=user, token=token, by=doer.by, address=doer.address))
        await self.store.add_token(user, token, hash_of(secret), self._clock.now(), fact)
        await self.tell()
        return secret

    async def revoke_token(self, name: str, token: str, doer: Doer) -> None:
        """A token holds no more."""
        user, token = parse_user_name(name), parse_token_name(token)
        fact = self.fact(TokenRevoked(user=user, token=token, by=doer.by, address=doer.address))
        await self.store.revoke_token(user, token, fact)
        await self.tell()

    async def make_setup_link(self, doer: Doer | None) -> str:
        """The secret of a link that makes an admin, once. A service that makes one for itself is no event."""
        link = new_secret()
        facts = [self.fact(SetupLinkMade(by=doer.by))] if doer else []
        await self.store.add_setup_link(hash_of(link), self._clock.now(), LINK_LIFETIME, *facts)
        await self.tell()
        return link

    async def note(self, *facts: AnyEvent) -> None:
        """Tell the log of what changed nothing, such as a log-in that was refused."""
        if facts:
            await self.store.note(*(self.fact(fact) for fact in facts))
            await self.tell()

    async def tell(self) -> None:
        """Tell the log whatever it was not told yet. What cannot be told now is told by whoever comes next."""
        try:
            for fact in await self.store.untold():
                await self._events.append(ACCESS_STREAM, None, [fact])
                await self.store.told(fact)
        except (LogUnavailable, LogRefused) as error:
            log.warning("What was done with users is told later: %s", error)

    def fact(self, event: AnyEvent) -> NewEvent:
        """An event under an id that nothing else has."""
        return NewEvent(event_id(run_id(self._clock.unix_ms(), secrets.randbits(ID_BITS)), 1), event)


def _checked(name: str, role: Role, hosts: Sequence[str] | None) -> User:
    if hosts is not None and role is Role.ADMIN:
        raise AccessRefused("An admin sees every host.", "Make them an operator, or leave the hosts out.")
    names = None if hosts is None else tuple(dict.fromkeys(parse_host_name(host) for host in hosts))
    return User(parse_user_name(name), role, names)
