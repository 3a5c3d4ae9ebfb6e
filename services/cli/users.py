"""`users`: who may use the dashboard and the API. Passwords come from a prompt or from stdin, never from the words."""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import rich_click as click

from services.cli import session
from services.cli.output import json_option, print_json, say, table
from shared.adapters.access import AccessStore, Token
from shared.adapters.clock import SystemClock
from shared.adapters.passwords import Passwords
from shared.config import Settings
from shared.domain.access import Role, User
from shared.domain.errors import BackupManagerError
from shared.runtime.accounts import LINK_LIFETIME, Accounts, Doer

_role = click.Choice([role.value for role in Role])


@click.group()
def users() -> None:
    """Who may use the dashboard and the API."""


@users.command("list")
@json_option
def list_users(*, as_json: bool) -> None:
    """All users and the names of their tokens."""
    found, tokens = session.run(_listed(session.settings_here()))
    if as_json:
        print_json([{"user": user, "tokens": [one for one in tokens if one.user == user.name]} for user in found])
        return
    rows = [
        [
            user.name,
            user.role,
            "all" if user.hosts is None else " ".join(user.hosts),
            " ".join(one.name for one in tokens if one.user == user.name),
        ]
        for user in found
    ]
    table(["USER", "ROLE", "HOSTS", "TOKENS"], rows, empty="No users yet. `backup-manager users add` adds one.")


async def _listed(settings: Settings) -> tuple[list[User], list[Token]]:
    async with _accounts(settings) as accounts:
        return await accounts.store.users(), await accounts.store.tokens()


@users.command()
@click.argument("name")
@click.option("--role", type=_role, required=True, help="viewer looks; operator also runs and restores; admin: users.")
@click.option("--host", "hosts", multiple=True, help="Only this host exists for them; may be given again.")
def add(*, name: str, role: str, hosts: tuple[str, ...]) -> None:
    """Add the user NAME; the password is asked for, or read from stdin."""
    settings = session.settings_here()
    unknown = [host for host in hosts if settings.host(host) is None]
    if unknown:
        raise click.UsageError(f"There is no host {unknown[0]!r}. `backup-manager hosts` lists them.")
    session.run(_add(settings, name, Role(role), hosts or None, _password(name)))
    say(f"{name} can log in now.")


async def _add(settings: Settings, name: str, role: Role, hosts: tuple[str, ...] | None, password: str) -> None:
    async with _accounts(settings) as accounts:
        if role is not Role.ADMIN and not await accounts.store.has_users():
            raise BackupManagerError("The first user must be an admin.", "Add one with --role admin.")
        await accounts.add(name, role, hosts, password, _me())


@users.command()
@click.argument("name")
def remove(*, name: str) -> None:
    """Remove the user NAME, with all sessions and tokens."""
    session.run(_remove(session.settings_here(), name))
    say(f"{name} was removed.")


async def _remove(settings: Settings, name: str) -> None:
    async with _accounts(settings) as accounts:
        await accounts.remove(name, _me())


@users.command()
@click.argument("name")
def password(*, name: str) -> None:
    """Give the user NAME another password; every session of theirs ends."""
    session.run(_set_password(session.settings_here(), name, _password(name)))
    say(f"{name} has another password.")


async def _set_password(settings: Settings, name: str, new: str) -> None:
    async with _accounts(settings) as accounts:
        await accounts.set_password(name, new, _me())


@users.command()
@click.argument("name")
@click.option("--name", "token", default="cli", show_default=True, help="What the token is called.")
def token(*, name: str, token: str) -> None:
    """Print a new token of the user NAME, this once; a program sends it as `Authorization: Bearer`."""
    say(session.run(_make_token(session.settings_here(), name, token)))


async def _make_token(settings: Settings, name: str, token: str) -> str:
    async with _accounts(settings) as accounts:
        return await accounts.make_token(name, token, _me())


@users.command()
@click.argument("name")
@click.argument("token")
def revoke(*, name: str, token: str) -> None:
    """Revoke the TOKEN of the user NAME."""
    session.run(_revoke(session.settings_here(), name, token))
    say(f"The token {token} of {name} holds no more.")


async def _revoke(settings: Settings, name: str, token: str) -> None:
    async with _accounts(settings) as accounts:
        await accounts.revoke_token(name, token, _me())


@users.command("setup-link")
def setup_link() -> None:
    """Print a link that makes an admin, once: for the first one, or when nobody can log in any more."""
    settings = session.settings_here()
    link = session.run(_setup_link(settings))
    say(f"{settings.local_url()}/setup/{link}")
    say(f"It works once, within {LINK_LIFETIME.total_seconds() / 3600:g} hours.")


async def _setup_link(settings: Settings) -> str:
    async with _accounts(settings) as accounts:
        return await accounts.make_setup_link(_me())


@asynccontextmanager
async def _accounts(settings: Settings) -> AsyncIterator[Accounts]:
    store = AccessStore(session.connections(settings).postgres_dsn)
    try:
        async with session.event_log(settings) as log:
            yield Accounts(store, log, Passwords(), SystemClock())
    finally:
        await store.close()


def _password(name: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True))
    return sys.stdin.readline().rstrip("\r\n")


def _me() -> Doer:
    return Doer(f"{getpass.getuser()}@{os.uname().nodename}")
