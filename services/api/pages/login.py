"""Logging in and out, and the set-up link that makes the first admin."""

from __future__ import annotations

import logging
from typing import Any, Final, TypeAlias

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath, FromQuery, URLEncodedBody
from litestar.response import Redirect, Template

from services.api.askers import address_of, session_of
from services.api.cookies import no_cookie, session_cookie
from services.api.given import TheAccounts, TheAskers, TheClock, TheLogins, TheWho
from services.api.guard import NARROWED
from services.api.login import TooManyTries, WrongPassword
from shared.adapters.access import LinkRefused
from shared.adapters.passwords import TooManyPasswords
from shared.adapters.secret import hash_of
from shared.domain.access import Permission, local_path
from shared.domain.errors import AccessRefused, NameRefused, PasswordRefused
from shared.runtime.accounts import Doer

PUBLIC: Final = {"needs": Permission.PUBLIC}
RETRY_SECONDS: Final = 5

log = logging.getLogger(__name__)


class LoginForm(msgspec.Struct, frozen=True):
    """Who wants in, and where to."""

    name: str = ""
    password: str = ""
    next: str = "/"


class SetupForm(msgspec.Struct, frozen=True):
    """The first admin."""

    name: str = ""
    password: str = ""
    again: str = ""


TheLogin: TypeAlias = URLEncodedBody[LoginForm]
TheSetup: TypeAlias = URLEncodedBody[SetupForm]
Next: TypeAlias = FromQuery[str]
Link: TypeAlias = FromPath[str]
Asked: TypeAlias = Request[Any, Any, Any]


@get("/login", include_in_schema=False, opt=PUBLIC)
async def login_page(askers: TheAskers, next: Next = "/") -> Template:  # what the address calls it
    """Where one logs in."""
    return await _login(askers.has_users, LoginForm(next=next))


@post("/login", include_in_schema=False, opt=PUBLIC)
async def log_in(
    request: Asked, accounts: TheAccounts, askers: TheAskers, logins: TheLogins, data: TheLogin
) -> Template | Redirect:
    """Check the password, and go to the page that was asked for."""
    address = address_of(request.scope)
    try:
        user = await logins.check(data.name, data.password, address)
        session = await accounts.log_in(user, address)
    except (WrongPassword, AccessRefused):
        return await _login(askers.has_users, data, "The name or the password is wrong.", 401)
    except TooManyTries as error:
        return await _login(askers.has_users, data, error.message, 429, {"Retry-After": str(error.seconds)})
    except TooManyPasswords as error:
        return await _login(askers.has_users, data, str(error), 429, {"Retry-After": str(RETRY_SECONDS)})
    return Redirect(local_path(data.next), status_code=303, cookies=[session_cookie(request, session)])


async def _login(
    has_users: Any, form: LoginForm, error: str = "", status: int = 200, headers: dict[str, str] | None = None
) -> Template:
    context = {"name": form.name, "next": local_path(form.next), "error": error, "has_users": await has_users()}
    return Template("login.html", context=context, status_code=status, headers=headers)


@post("/logout", include_in_schema=False, opt={"needs": Permission.VIEW, NARROWED: True})
async def log_out(request: Asked, accounts: TheAccounts, who: TheWho) -> Redirect:
    """End the session."""
    session = session_of(request)
    if session and who.user and not who.token:
        await accounts.log_out(session, who.user, who.address)
    return Redirect("/login", status_code=303, cookies=[no_cookie(request)])


@get("/setup/{link:str}", include_in_schema=False, opt=PUBLIC)
async def setup_page(accounts: TheAccounts, clock: TheClock, link: Link) -> Template:
    """Where the first admin is made."""
    holds = await accounts.store.link_holds(hash_of(link), clock.now())
    return _setup(SetupForm(), {}, holds=holds)


@post("/setup/{link:str}", include_in_schema=False, opt=PUBLIC)
async def set_up(
    *, request: Asked, accounts: TheAccounts, askers: TheAskers, clock: TheClock, link: Link, data: TheSetup
) -> Template | Redirect:
    """Make the first admin, and log them in."""
    if not await accounts.store.link_holds(hash_of(link), clock.now()):  # before a hash is made for nothing
        return _setup(data, {}, holds=False)
    address = address_of(request.scope)
    try:
        if data.password != data.again:
            return _setup(data, {"again": "The two passwords differ."})
        user = await accounts.set_up(link, data.name, data.password, Doer("set-up link", address))
    except LinkRefused:
        return _setup(data, {}, holds=False)
    except (NameRefused, AccessRefused) as error:
        return _setup(data, {"name": str(error)})
    except PasswordRefused as error:
        return _setup(data, {"password": str(error)})
    await askers.look()
    log.info("%s is the first admin. From now on everybody has to log in.", user.name)
    session = await accounts.log_in(user, address)
    return Redirect("/", status_code=303, cookies=[session_cookie(request, session)])


def _setup(form: SetupForm, errors: dict[str, str], *, holds: bool = True) -> Template:
    status = 404 if not holds else 400 if errors else 200
    context = {"name": form.name, "errors": errors, "holds": holds}
    return Template("setup.html", context=context, status_code=status)


PAGES: Final = (login_page, log_in, log_out, setup_page, set_up)
