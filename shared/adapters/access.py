"""Users, sessions, tokens and set-up links in Postgres. Every change takes the event that tells it along, or fails."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import asyncpg
import msgspec

from shared.adapters.database import Wire
from shared.domain.access import Role, User, UserName
from shared.domain.errors import AccessRefused
from shared.domain.events import NewEvent, decode_event, encode_event

IDLE: Final = timedelta(hours=12)
ABSOLUTE: Final = timedelta(days=7)
SEEN_EVERY: Final = timedelta(minutes=1)
"""How exactly a session's last use is noted: a write for each request would be too many."""

_USER: Final = "u.name, u.role, u.hosts"
_BY_SESSION: Final = f"""
    SELECT {_USER}, s.seen_at FROM access.sessions s JOIN access.users u ON u.name = s.user_name
     WHERE s.hash = $1 AND s.seen_at > $2 AND s.started_at > $3"""  # noqa: S608  # written here
_BY_TOKEN: Final = f"""
    SELECT {_USER}, t.name AS token FROM access.tokens t JOIN access.users u ON u.name = t.user_name
     WHERE t.hash = $1"""  # noqa: S608


class Token(msgspec.Struct, frozen=True):
    """A token as it may be shown."""

    user: str
    name: str
    made_at: datetime


class LinkRefused(AccessRefused):
    """A set-up link that was used, is too old, or never was one."""

    def __init__(self) -> None:
        super().__init__("This set-up link does not hold any more.", "`backup-manager users setup-link` makes another.")


class AccessStore:
    """What is known of users. Raises LogUnavailable when the database is."""

    def __init__(self, dsn: str) -> None:
        self._link = Wire(dsn)

    async def close(self) -> None:
        """Close the connection."""
        await self._link.close()

    @contextlib.asynccontextmanager
    async def _change(self, *facts: NewEvent) -> AsyncIterator[asyncpg.Connection]:
        async with self._link.use() as connection, connection.transaction():
            yield connection
            for fact in facts:
                await connection.execute(
                    "INSERT INTO access.untold (id, event) VALUES ($1, $2)", fact.id, encode_event(fact.event)
                )

    @contextlib.asynccontextmanager
    async def _change_users(self, fact: NewEvent) -> AsyncIterator[asyncpg.Connection]:
        """One change at a time, and never without an admin at its end."""
        async with self._change(fact) as connection:
            await connection.execute("LOCK TABLE access.users IN SHARE ROW EXCLUSIVE MODE")
            yield connection
            if not await connection.fetchval("SELECT EXISTS (SELECT FROM access.users WHERE role = 'admin')"):
                raise AccessRefused("Then there would be no admin.", "Make somebody else an admin first.")

    async def has_users(self) -> bool:
        """Whether there is any user."""
        async with self._link.use() as connection:
            return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM access.users)"))

    async def users(self) -> list[User]:
        """All of them, by name."""
        async with self._link.use() as connection:
            rows = await connection.fetch(f"SELECT {_USER} FROM access.users u ORDER BY name")  # noqa: S608
        return [_user(row) for row in rows]

    async def credentials(self, name: str) -> tuple[User, str] | None:
        """A user and the hash of the password."""
        async with self._link.use() as connection:
            sql = f"SELECT {_USER}, u.password_hash FROM access.users u WHERE name = $1"  # noqa: S608
            row = await connection.fetchrow(sql, name)
        return None if row is None else (_user(row), row["password_hash"])

    async def add_user(self, user: User, password_hash: str, now: datetime, fact: NewEvent) -> None:
        """Add a user; set-up links lose their use. Raises AccessRefused."""
        async with self._change_users(fact) as connection:
            await _insert(connection, user, password_hash, now)
            await connection.execute("DELETE FROM access.setup_links")

    async def set_up(self, link: bytes, user: User, password_hash: str, now: datetime, fact: NewEvent) -> None:
        """Add a user by a set-up link and use up every one of them. Raises LinkRefused and AccessRefused."""
        async with self._change_users(fact) as connection:
            gone = await connection.fetch("DELETE FROM access.setup_links RETURNING hash, expires_at")
            if not any(row["hash"] == link and row["expires_at"] > now for row in gone):
                raise LinkRefused
            await _insert(connection, user, password_hash, now)

    async def change_user(self, name: str, role: Role, hosts: Sequence[str] | None, fact: NewEvent) -> None:
        """Give a user another role or other hosts. Raises AccessRefused."""
        async with self._change_users(fact) as connection:
            changed = await connection.fetchval(
                "UPDATE access.users SET role = $2, hosts = $3 WHERE name = $1 RETURNING true",
                name,
                role.value,
                None if hosts is None else list(hosts),
            )
            _must_be(changed, name)

    async def remove_user(self, name: str, fact: NewEvent) -> None:
        """Remove a user with all sessions and tokens. Raises AccessRefused."""
        async with self._change_users(fact) as connection:
            _must_be(await connection.fetchval("DELETE FROM access.users WHERE name = $1 RETURNING true", name), name)

    async def set_password(self, name: str, password_hash: str, fact: NewEvent) -> None:
        """Another password; every session ends. Raises AccessRefused."""
        async with self._change(fact) as connection:
            sql = "UPDATE access.users SET password_hash = $2 WHERE name = $1 RETURNING true"
            _must_be(await connection.fetchval(sql, name, password_hash), name)
            await connection.execute("DELETE FROM access.sessions WHERE user_name = $1", name)

    async def start_session(self, session: bytes, name: str, now: datetime, *facts: NewEvent) -> None:
        """A user is logged in from now on; sessions that expired are forgotten. Raises AccessRefused."""
        async with self._change(*facts) as connection:
            await connection.execute(
                "DELETE FROM access.sessions WHERE seen_at <= $1 OR started_at <= $2", now - IDLE, now - ABSOLUTE
            )
            try:
                await connection.execute("INSERT INTO access.sessions VALUES ($1, $2, $3, $3)", session, name, now)
            except asyncpg.ForeignKeyViolationError:
                _must_be(None, name)

    async def end_session(self, session: bytes, fact: NewEvent) -> None:
        """Log out."""
        async with self._change(fact) as connection:
            await connection.execute("DELETE FROM access.sessions WHERE hash = $1", session)

    async def user_of_session(self, session: bytes, now: datetime) -> User | None:
        """Who is logged in with it."""
        async with self._link.use() as connection:
            row = await connection.fetchrow(_BY_SESSION, session, now - IDLE, now - ABSOLUTE)
            if row is not None and now - row["seen_at"] > SEEN_EVERY:
                await connection.execute("UPDATE access.sessions SET seen_at = $2 WHERE hash = $1", session, now)
        return None if row is None else _user(row)

    async def user_of_token(self, token: bytes) -> tuple[User, str] | None:
        """In whose name a program asks, and what the token is called."""
        async with self._link.use() as connection:
            row = await connection.fetchrow(_BY_TOKEN, token)
        return None if row is None else (_user(row), row["token"])

    async def tokens(self, name: str | None = None) -> list[Token]:
        """The tokens of a user, or of all."""
        sql = (
            "SELECT user_name, name, made_at FROM access.tokens WHERE $1::text IS NULL OR user_name = $1 ORDER BY 1, 2"
        )
        async with self._link.use() as connection:
            return [Token(*row) for row in await connection.fetch(sql, name)]

    async def add_token(self, name: str, token: str, hashed: bytes, now: datetime, fact: NewEvent) -> None:
        """A program may ask in the name of a user. Raises AccessRefused."""
        async with self._change(fact) as connection:
            try:
                await connection.execute("INSERT INTO access.tokens VALUES ($1, $2, $3, $4)", hashed, name, token, now)
            except asyncpg.ForeignKeyViolationError:
                _must_be(None, name)
            except asyncpg.UniqueViolationError as error:
                hint = "Choose another name, or revoke that one."
                raise AccessRefused(f"{name} has a token called {token} already.", hint) from error

    async def revoke_token(self, name: str, token: str, fact: NewEvent) -> None:
        """A token holds no more. Raises AccessRefused."""
        async with self._change(fact) as connection:
            sql = "DELETE FROM access.tokens WHERE user_name = $1 AND name = $2 RETURNING true"
            if not await connection.fetchval(sql, name, token):
                raise AccessRefused(f"{name} has no token called {token}.", "Nothing was changed.")

    async def add_setup_link(self, link: bytes, now: datetime, lifetime: timedelta, *facts: NewEvent) -> None:
        """A link that makes an admin, once."""
        async with self._change(*facts) as connection:
            await connection.execute("DELETE FROM access.setup_links WHERE expires_at <= $1", now)
            await connection.execute("INSERT INTO access.setup_links VALUES ($1, $2)", link, now + lifetime)

    async def link_holds(self, link: bytes, now: datetime) -> bool:
        """Whether a set-up link can be used."""
        sql = "SELECT EXISTS (SELECT FROM access.setup_links WHERE hash = $1 AND expires_at > $2)"
        async with self._link.use() as connection:
            return bool(await connection.fetchval(sql, link, now))

    async def note(self, *facts: NewEvent) -> None:
        """Something to tell that changed nothing."""
        async with self._change(*facts):
            pass

    async def untold(self) -> list[NewEvent]:
        """What the log was not told yet, oldest first."""
        async with self._link.use() as connection:
            rows = await connection.fetch("SELECT id, event FROM access.untold ORDER BY number LIMIT 1000")
        return [NewEvent(row["id"], decode_event(row["event"])) for row in rows]

    async def told(self, fact: NewEvent) -> None:
        """The log has it."""
        async with self._link.use() as connection:
            await connection.execute("DELETE FROM access.untold WHERE id = $1", fact.id)


async def _insert(connection: asyncpg.Connection, user: User, password_hash: str, now: datetime) -> None:
    hosts = None if user.hosts is None else list(user.hosts)
    try:
        await connection.execute(
            "INSERT INTO access.users VALUES ($1, $2, $3, $4, $5)",
            user.name,
            user.role.value,
            hosts,
            password_hash,
            now,
        )
    except asyncpg.UniqueViolationError as error:
        raise AccessRefused(f"There is a user {user.name} already.", "Choose another name.") from error


def _user(row: asyncpg.Record) -> User:
    hosts = row["hosts"]
    return User(UserName(row["name"]), Role(row["role"]), None if hosts is None else tuple(hosts))


def _must_be(found: object, name: str) -> None:
    if not found:
        raise AccessRefused(f"There is no user {name[:80]!r}.", "Nothing was changed.")
