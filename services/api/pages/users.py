"""The page on which admins add, change and remove users."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec
from litestar import get, post
from litestar.params import FromPath, URLEncodedBody
from litestar.response import Redirect, Template

from services.api.given import TheAccounts, TheClock, TheLive, TheWho
from services.api.live import Live
from services.api.pages.about import about
from shared.adapters.clock import SystemClock
from shared.domain.access import Permission, Role, Who
from shared.domain.errors import AccessRefused, NameRefused, PasswordRefused
from shared.runtime.accounts import Accounts, Doer

ADMIN: Final = {"needs": Permission.ADMIN}
PLACE: Final = "dashboard"


class NewUser(msgspec.Struct, frozen=True):
    """A user to add; `hosts` are names with spaces between, none for all."""

    name: str = ""
    password: str = ""
    role: Role = Role.VIEWER
    hosts: str = ""


class Change(msgspec.Struct, frozen=True):
    """What a user is from now on."""

    role: Role
    hosts: str = ""


class Another(msgspec.Struct, frozen=True):
    """Another password."""

    password: str = ""


Added: TypeAlias = URLEncodedBody[NewUser]
Changed: TypeAlias = URLEncodedBody[Change]
Renewed: TypeAlias = URLEncodedBody[Another]
Name: TypeAlias = FromPath[str]
TokenName: TypeAlias = FromPath[str]


@get("/users", include_in_schema=False, opt=ADMIN)
async def users_page(accounts: TheAccounts, live: TheLive, clock: TheClock) -> Template:
    """Every user with their tokens."""
    return await _page(accounts, live, clock)


@post("/users", include_in_schema=False, opt=ADMIN)
async def add(accounts: TheAccounts, live: TheLive, clock: TheClock, who: TheWho, data: Added) -> Template | Redirect:
    """Add a user."""
    try:
        await accounts.add(data.name, data.role, names_of(data.hosts), data.password, doer_of(who))
    except PasswordRefused as error:
        return await _page(accounts, live, clock, form=data, errors={"password": str(error)})
    except NameRefused as error:
        where = "name" if "user name" in error.message else "hosts"
        return await _page(accounts, live, clock, form=data, errors={where: str(error)})
    except AccessRefused as error:
        where = "hosts" if "host" in error.message else "name"
        return await _page(accounts, live, clock, form=data, errors={where: str(error)})
    return Redirect("/users", status_code=303)


@post("/users/{name:str}/change", include_in_schema=False, opt=ADMIN)
async def change(
    *, accounts: TheAccounts, live: TheLive, clock: TheClock, who: TheWho, name: Name, data: Changed
) -> Template | Redirect:
    """Give a user another role or other hosts."""
    try:
        await accounts.change(name, data.role, names_of(data.hosts), doer_of(who))
    except (AccessRefused, NameRefused) as error:
        return await _page(accounts, live, clock, about_user={name: str(error)})
    return Redirect("/users", status_code=303)


@post("/users/{name:str}/password", include_in_schema=False, opt=ADMIN)
async def renew(
    *, accounts: TheAccounts, live: TheLive, clock: TheClock, who: TheWho, name: Name, data: Renewed
) -> Template | Redirect:
    """Give a user another password; every session of theirs ends."""
    try:
        await accounts.set_password(name, data.password, doer_of(who))
    except (AccessRefused, NameRefused, PasswordRefused) as error:
        return await _page(accounts, live, clock, about_user={name: str(error)})
    return Redirect("/users", status_code=303)


@post("/users/{name:str}/remove", include_in_schema=False, opt=ADMIN)
async def remove(accounts: TheAccounts, live: TheLive, clock: TheClock, who: TheWho, name: Name) -> Template | Redirect:
    """Remove a user, with all sessions and tokens."""
    try:
        await accounts.remove(name, doer_of(who))
    except (AccessRefused, NameRefused) as error:
        return await _page(accounts, live, clock, about_user={name: str(error)})
    return Redirect("/users", status_code=303)


@post("/users/{name:str}/tokens/{token:str}/revoke", include_in_schema=False, opt=ADMIN)
async def revoke(
    *, accounts: TheAccounts, live: TheLive, clock: TheClock, who: TheWho, name: Name, token: TokenName
) -> Template | Redirect:
    """Revoke a token of a user."""
    try:
        await accounts.revoke_token(name, token, doer_of(who))
    except (AccessRefused, NameRefused) as error:
        return await _page(accounts, live, clock, about_user={name: str(error)})
    return Redirect("/users", status_code=303)


def names_of(hosts: str) -> tuple[str, ...] | None:
    """The hosts of a field; None, which is all of them, when it is empty."""
    return tuple(hosts.replace(",", " ").split()) or None


def doer_of(who: Who) -> Doer:
    """Whoever uses these pages, as the log calls them."""
    return Doer(who.by(PLACE), who.address)


async def _page(accounts: Accounts, live: Live, clock: SystemClock, **more: Any) -> Template:
    wrong = bool(more)
    context: dict[str, Any] = {"form": NewUser(), "errors": {}, "about_user": {}} | more
    tokens: dict[str, list[Any]] = {}
    for token in await accounts.store.tokens():
        tokens.setdefault(token.user, []).append(token)
    context |= {"users": await accounts.store.users(), "tokens": tokens}
    context |= about(live, None, clock.now())
    return Template("users.html", context=context, status_code=400 if wrong else 200)


PAGES: Final = (users_page, add, change, renew, remove, revoke)
