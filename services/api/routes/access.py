"""Users and tokens, for programs; and whether the service answers at all."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec
from litestar import delete, get, patch, post, put
from litestar.params import FromPath, JSONBody

from services.api.given import TheAccounts, TheLive, TheWho
from services.api.guard import NARROWED
from services.api.problems import AccessDenied, LoginNeeded
from services.api.routes.wishes import Done
from shared.adapters.access import Token
from shared.domain.access import Permission, Role, User, Who
from shared.domain.errors import MessageRefused, NameRefused
from shared.runtime.accounts import Doer

ADMIN: Final = {"needs": Permission.ADMIN}
OWN: Final = {"needs": Permission.VIEW, NARROWED: True}


class Me(msgspec.Struct, frozen=True):
    """Who asks; `hosts` is null for one who sees all of them."""

    user: str
    permissions: tuple[str, ...]
    hosts: tuple[str, ...] | None
    token: str


class UserBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A user to add; `hosts` is left out for one who sees all of them."""

    name: str
    password: str
    role: Role = Role.VIEWER
    hosts: tuple[str, ...] | None = None


class RoleBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a user is from now on."""

    role: Role
    hosts: tuple[str, ...] | None = None


class PasswordBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Another password."""

    password: str


class TokenBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the token is called; `user` is whose, one's own when left out."""

    name: str
    user: str = ""


class NewToken(msgspec.Struct, frozen=True):
    """A token, shown this once."""

    user: str
    name: str
    token: str


class Health(msgspec.Struct, frozen=True):
    """Whether the log can be read."""

    log: str


NewUserBody: TypeAlias = JSONBody[UserBody]
NewRole: TypeAlias = JSONBody[RoleBody]
NewPassword: TypeAlias = JSONBody[PasswordBody]
NewTokenBody: TypeAlias = JSONBody[TokenBody]
UserInPath: TypeAlias = FromPath[str]
TokenInPath: TypeAlias = FromPath[str]


@get("/healthz", summary="Whether the service answers", opt={"needs": Permission.PUBLIC})
async def health(live: TheLive) -> Health:
    """For whatever watches the service; it says nothing of any host."""
    return Health("away" if live.log_is_away else "ok")


@get("/api/me", summary="Who asks", opt=OWN)
async def me(who: TheWho) -> Me:
    """Who asks, and what they may do."""
    return Me(
        who.user, tuple(sorted(who.permissions)), None if who.hosts is None else tuple(sorted(who.hosts)), who.token
    )


@get("/api/users", summary="All users", opt=ADMIN)
async def users(accounts: TheAccounts) -> list[User]:
    """Every user, by name."""
    return await accounts.store.users()


@post("/api/users", summary="Add a user", opt=ADMIN)
async def add_user(accounts: TheAccounts, who: TheWho, data: NewUserBody) -> User:
    """Add a user. 409 when there is one of this name."""
    try:
        return await accounts.add(data.name, data.role, data.hosts, data.password, _doer(who))
    except NameRefused as error:
        raise MessageRefused(error.message, error.hint) from error


@patch("/api/users/{user:str}", summary="Another role", opt=ADMIN)
async def change_user(accounts: TheAccounts, who: TheWho, user: UserInPath, data: NewRole) -> Done:
    """Give a user another role or other hosts. 409 when no admin would be left."""
    await accounts.change(user, data.role, data.hosts, _doer(who))
    return Done(f"{user} is {data.role} now.")


@put("/api/users/{user:str}/password", summary="Another password", opt=ADMIN)
async def set_password(accounts: TheAccounts, who: TheWho, user: UserInPath, data: NewPassword) -> Done:
    """Give a user another password; every session of theirs ends."""
    await accounts.set_password(user, data.password, _doer(who))
    return Done(f"{user} has another password; every session of theirs has ended.")


@delete("/api/users/{user:str}", status_code=200, summary="Remove a user", opt=ADMIN)
async def remove_user(accounts: TheAccounts, who: TheWho, user: UserInPath) -> Done:
    """Remove a user, with all sessions and tokens. 409 when no admin would be left."""
    await accounts.remove(user, _doer(who))
    return Done(f"{user} was removed.")


@get("/api/tokens", summary="Tokens", opt=OWN)
async def tokens(accounts: TheAccounts, who: TheWho) -> list[Token]:
    """One's own tokens; an admin sees those of everybody."""
    return await accounts.store.tokens(None if who.may(Permission.ADMIN) else _whose(who, ""))


@post("/api/tokens", summary="Make a token", opt=OWN)
async def make_token(accounts: TheAccounts, who: TheWho, data: NewTokenBody) -> NewToken:
    """Make a token. It is in this answer and never again."""
    user = _whose(who, data.user)
    try:
        return NewToken(user, data.name, await accounts.make_token(user, data.name, _doer(who)))
    except NameRefused as error:
        raise MessageRefused(error.message, error.hint) from error


@delete("/api/tokens/{user:str}/{token:str}", status_code=200, summary="Revoke a token", opt=OWN)
async def revoke_token(accounts: TheAccounts, who: TheWho, user: UserInPath, token: TokenInPath) -> Done:
    """Revoke one's own token; an admin revokes anybody's."""
    await accounts.revoke_token(_whose(who, user), token, _doer(who))
    return Done(f"The token {token} of {user} holds no more.")


def _whose(who: Who, user: str) -> str:
    """Whose token is meant. Raises LoginNeeded and AccessDenied."""
    if not who.user:
        raise LoginNeeded("This needs a log-in.", "There are no users yet: use the set-up link first.")
    if user not in {"", who.user} and not who.may(Permission.ADMIN):
        raise AccessDenied("Only an admin handles the tokens of others.", "Leave the user out for your own.")
    return user or who.user


def _doer(who: Who) -> Doer:
    return Doer(who.by("api"), who.address)


ROUTES: Final = (
    health,
    me,
    users,
    add_user,
    change_user,
    set_password,
    remove_user,
    tokens,
    make_token,
    revoke_token,
)
