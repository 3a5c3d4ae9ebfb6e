"""Who may use this product, and who did. Never a secret, nor a hash of one: the log cannot forget.

`by` is who did it, `address` where from; both are empty where nobody else was involved.
"""

from __future__ import annotations

from shared.domain.event import Event


class UserAdded(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A user was added. `hosts` is None for one who sees all of them."""

    user: str
    role: str
    hosts: tuple[str, ...] | None = None
    by: str = ""
    address: str = ""


class UserChanged(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A user has another role, other hosts or another password: `what` says which."""

    user: str
    what: str
    role: str = ""
    hosts: tuple[str, ...] | None = None
    by: str = ""
    address: str = ""


class UserRemoved(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A user was removed, with all sessions and tokens."""

    user: str
    by: str = ""
    address: str = ""


class LoggedIn(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """Somebody logged in."""

    user: str
    address: str = ""


class LoggedOut(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """Somebody logged out."""

    user: str
    address: str = ""


class LoginRefused(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """Log-ins were refused: `attempts` of them since this was last told.

    `user` is empty when there is no such user: people type passwords into that field.
    """

    user: str = ""
    address: str = ""
    attempts: int = 1


class TokenMade(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A program got a token in the name of a user."""

    user: str
    token: str
    by: str = ""
    address: str = ""


class TokenRevoked(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A token holds no more."""

    user: str
    token: str
    by: str = ""
    address: str = ""


class SetupLinkMade(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """Somebody made a link that makes an admin. The ones of the service itself, before the first user, are not told."""

    by: str = ""
