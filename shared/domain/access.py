"""Who may do what: roles, what each permits, and which hosts a user sees. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, NewType
from urllib.parse import urlsplit

import msgspec

from shared.domain.errors import NameRefused, PasswordRefused

UserName = NewType("UserName", str)

SHORTEST_PASSWORD: Final = 12
LONGEST_PASSWORD: Final = 256
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)
_HARMLESS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class Permission(StrEnum):
    """What a request needs: nothing, looking, asking for runs and holds, seeing and restoring files, managing users."""

    PUBLIC = "public"
    VIEW = "view"
    RUN = "run"
    READ_FILES = "read_files"
    ADMIN = "admin"


class Role(StrEnum):
    """What a user is."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


PERMISSIONS: Final[dict[Role, frozenset[Permission]]] = {
    Role.VIEWER: frozenset({Permission.VIEW}),
    Role.OPERATOR: frozenset({Permission.VIEW, Permission.RUN, Permission.READ_FILES}),
    Role.ADMIN: frozenset(Permission) - {Permission.PUBLIC},
}


class User(msgspec.Struct, frozen=True):
    """A user; `hosts` is None for one who sees all of them."""

    name: UserName
    role: Role
    hosts: tuple[str, ...] | None = None


class Who(msgspec.Struct, frozen=True):
    """Who asks. `user` is empty for somebody without a log-in; `token` names the token that a program bears."""

    user: str = ""
    permissions: frozenset[Permission] = frozenset()
    hosts: frozenset[str] | None = None
    token: str = ""
    address: str = ""

    def may(self, permission: Permission) -> bool:
        """Whether this is allowed to them."""
        return permission is Permission.PUBLIC or permission in self.permissions

    def by(self, place: str) -> str:
        """How the log calls them: `alice (dashboard)`; the place alone while nobody has to log in."""
        return f"{self.user} ({f'token {self.token}' if self.token else place})" if self.user else place


NOBODY: Final = Who()
THIS_MACHINE: Final = Who(permissions=frozenset({Permission.VIEW, Permission.RUN}))
"""Anybody on this machine, while there are no users: what is in the backups needs a log-in even then."""


def who_is(user: User, *, token: str = "", address: str = "") -> Who:
    """A user as one who asks."""
    hosts = None if user.hosts is None else frozenset(user.hosts)
    return Who(user.name, PERMISSIONS[user.role], hosts, token, address)


def needed(method: str, opt: Mapping[str, Any]) -> Permission:
    """What a route needs: what it declares, else VIEW for what only reads and RUN for what does something."""
    declared = opt.get("needs")
    if isinstance(declared, Permission):
        return declared
    match opt.get("role"):
        case "nobody":
            return Permission.PUBLIC
        case "viewer":
            return Permission.VIEW
        case "operator":
            return Permission.READ_FILES
        case None:
            return Permission.VIEW if method in _HARMLESS else Permission.RUN
        case _:
            return Permission.ADMIN  # also for a word that nobody knows


def lowest_role(permission: Permission) -> Role:
    """The role that suffices for it."""
    return next((role for role in Role if permission in PERMISSIONS[role]), Role.ADMIN)


def sees(who: Who, host: str) -> bool:
    """Whether a host exists for them."""
    return who.hosts is None or host in who.hosts


def visible(names: Iterable[str], who: Who) -> list[str]:
    """The hosts of these that they see, in the same order."""
    return [name for name in names if sees(who, name)]


def hears(who: Who, stream: str) -> bool:
    """Whether the events of a stream are for them: those of their hosts; who logs in from where, for admins only."""
    if stream == ACCESS_STREAM:
        return who.may(Permission.ADMIN)
    return who.hosts is None or (stream.startswith("host-") and stream.removeprefix("host-") in who.hosts)


def parse_user_name(text: str) -> UserName:
    """The text as the name of a user. Raises NameRefused."""
    if not _NAME.fullmatch(text):
        allowed = "Allowed: 1 to 63 of a-z, 0-9, dot, _ and -, beginning with a letter or digit."
        raise NameRefused(f"{text[:80]!r} is not a user name.", allowed)
    return UserName(text)


def parse_token_name(text: str) -> str:
    """The text as the name of a token. Raises NameRefused."""
    try:
        return parse_user_name(text)
    except NameRefused as error:
        raise NameRefused(f"{text[:80]!r} is not a name for a token.", error.hint) from error


def check_password(password: str, user: str) -> None:
    """Length is what makes a password hard to guess. Raises PasswordRefused."""
    if len(password) < SHORTEST_PASSWORD:
        raise PasswordRefused(f"The password has fewer than {SHORTEST_PASSWORD} characters.", "Three words will do.")
    if len(password) > LONGEST_PASSWORD:
        raise PasswordRefused(f"The password has more than {LONGEST_PASSWORD} characters.", "Shorten it.")
    if len(set(password)) < 4 or password.lower().strip("0123456789!.") == user:
        raise PasswordRefused("This password is among the first that somebody would try.", "Three words will do.")


def local_path(text: str) -> str:
    """Where to go after a log-in: only ever a page of ours, else the first one."""
    if not text.startswith("/") or text.startswith("//") or not text.isprintable() or "\\" in text:
        return "/"
    try:
        parts = urlsplit(text)
    except ValueError:
        return "/"
    return "/" if parts.scheme or parts.netloc else text


ACCESS_STREAM: Final = "access"
