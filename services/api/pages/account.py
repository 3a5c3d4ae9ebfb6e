"""The page of one's own password and tokens."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath, URLEncodedBody
from litestar.response import Redirect, Template

from services.api.cookies import session_cookie
from services.api.given import TheAccounts, TheClock, TheLive, TheLogins, TheWho
from services.api.guard import NARROWED
from services.api.live import Live
from services.api.login import TooManyTries, WrongPassword
from services.api.pages.about import about
from services.api.pages.users import doer_of
from services.api.problems import LoginNeeded
from shared.adapters.clock import SystemClock
from shared.domain.access import Permission, Who
from shared.domain.errors import AccessRefused, NameRefused, PasswordRefused
from shared.runtime.accounts import Accounts

OWN: Final = {"needs": Permission.VIEW, NARROWED: True}


class PasswordForm(msgspec.Struct, frozen=True):
    """The password as it is and as it is to be."""

    current: str = ""
    password: str = ""
    again: str = ""


class TokenForm(msgspec.Struct, frozen=True):
    """What the new token is called."""

    name: str = ""


ThePassword: TypeAlias = URLEncodedBody[PasswordForm]
TheToken: TypeAlias = URLEncodedBody[TokenForm]
TokenName: TypeAlias = FromPath[str]


@get("/account", include_in_schema=False, opt=OWN)
async def account_page(accounts: TheAccounts, live: TheLive, clock: TheClock, who: TheWho) -> Template:
    """One's own password and tokens."""
    return await _page(accounts, live, clock, who)


@post("/account/password", include_in_schema=False, opt=OWN)
async def set_password(
    *,
    request: Request[Any, Any, Any],
    accounts: TheAccounts,
    logins: TheLogins,
    live: TheLive,
    clock: TheClock,
    who: TheWho,
    data: ThePassword,
) -> Template | Redirect:
    """Another password; every other session ends."""
    user = somebody(who)
    try:
        await logins.check(user, data.current, who.address)
        if data.password != data.again:
            return await _page(accounts, live, clock, who, errors={"again": "The two passwords differ."})
        await accounts.set_password(user, data.password, doer_of(who))
    except (WrongPassword, TooManyTries) as error:
        said = error.message if isinstance(error, TooManyTries) else "This is not your password."
        return await _page(accounts, live, clock, who, errors={"current": said})
    except PasswordRefused as error:
        return await _page(accounts, live, clock, who, errors={"password": str(error)})
    session = await accounts.go_on(user)
    return Redirect("/account", status_code=303, cookies=[session_cookie(request, session)])


@post("/account/tokens", include_in_schema=False, opt=OWN)
async def make_token(accounts: TheAccounts, live: TheLive, clock: TheClock, who: TheWho, data: TheToken) -> Template:
    """Make a token and show it, this once."""
    try:
        secret = await accounts.make_token(somebody(who), data.name, doer_of(who))
    except (AccessRefused, NameRefused) as error:
        return await _page(accounts, live, clock, who, errors={"name": str(error)}, token_name=data.name)
    return await _page(accounts, live, clock, who, secret=secret)


@post("/account/tokens/{token:str}/revoke", include_in_schema=False, opt=OWN)
async def revoke_token(
    accounts: TheAccounts, live: TheLive, clock: TheClock, who: TheWho, token: TokenName
) -> Template | Redirect:
    """Revoke one's own token."""
    try:
        await accounts.revoke_token(somebody(who), token, doer_of(who))
    except (AccessRefused, NameRefused) as error:
        return await _page(accounts, live, clock, who, errors={"tokens": str(error)})
    return Redirect("/account", status_code=303)


def somebody(who: Who) -> str:
    """The name of whoever asks. Raises LoginNeeded for one who has none."""
    if not who.user:
        raise LoginNeeded("This needs a log-in.", "There are no users yet: use the set-up link first.")
    return who.user


async def _page(accounts: Accounts, live: Live, clock: SystemClock, who: Who, **more: Any) -> Template:
    context: dict[str, Any] = {"errors": {}, "secret": "", "token_name": ""} | more
    context |= {"tokens": await accounts.store.tokens(somebody(who))}
    context |= about(live, None, clock.now())
    return Template("account.html", context=context, status_code=400 if context["errors"] else 200)


PAGES: Final = (account_page, set_password, make_token, revoke_token)
