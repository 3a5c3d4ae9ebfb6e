"""The secrets of an installation as files: each service's own folder holds what it needs and nothing else.

<folder>/<service>/nats.nk            the seed of its key for the bus
<folder>/<service>/postgres-password  the password of its role
<folder>/anon/postgres-password       the one of backup_anon, which reads the views
<folder>/nats/users.conf              for nats.conf to include: public keys and permissions, no secret
<folder>/postgres/superuser-password  what the server is initialised with
<folder>/provision/                   nats.nk, superuser-password and passwords/<service>: what provisioning needs

Nothing that is there is ever overwritten, but users.conf, which is made from the rest. Where only one of the two
copies of a password is left, the other is made from it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from services.embedded.directory import make_directory, secret, write_private
from shared.adapters.bus_client import read_seed
from shared.adapters.bus_permissions import BUS_USERS, PROVISION, users_conf
from shared.adapters.nkeys import new_seed, public_key
from shared.adapters.roles import ANON
from shared.config.dsn import holds_password, with_password
from shared.domain.errors import KeyRefused
from shared.domain.names import StoreName
from shared.domain.writers import Service, role_of

KEY: Final = "nats.nk"
PASSWORD: Final = "postgres-password"  # noqa: S105  # the name of a file
SUPERUSER: Final = "superuser-password"
READER: Final = "anon"
PRIVATE: Final = 0o700


class SecretFiles:
    """The secrets below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self, stores: Iterable[StoreName], *, superuser: bool) -> None:
        """Make what is missing, and users.conf anew when it would be another. Raises KeyRefused and OSError.

        `superuser`: also the password of the database's superuser, for a server that is not ours to initialise.
        """
        for user in BUS_USERS:
            self._key(user)
        for name in (*Service, READER):
            self._same(self.folder / name / PASSWORD, self.provisioning / "passwords" / name)
        if superuser:
            self._same(self.folder / "postgres" / SUPERUSER, self.provisioning / SUPERUSER)
        self._users(users_conf({user: public_key(read_seed(self.key(user))) for user in BUS_USERS}, stores))

    @property
    def provisioning(self) -> Path:
        """The folder with what provisioning needs."""
        return self.folder / PROVISION

    @property
    def users_conf(self) -> Path:
        """What nats.conf includes."""
        return self.folder / "nats" / "users.conf"

    def key(self, user: str) -> Path:
        """The file with the key of a user of the bus."""
        return self.folder / user / KEY

    def password(self, service: str) -> str:
        """The password of a service's role."""
        return (self.folder / service / PASSWORD).read_text(encoding="ascii").strip()

    def _key(self, user: str) -> None:
        _private_directory(self.folder / user)
        if not self.key(user).exists():
            write_private(self.key(user), new_seed() + "\n")

    def _same(self, one: Path, other: Path) -> None:
        """See to it that both files hold one password."""
        for path in (one, other):
            _private_directory(path.parent)
        if not one.exists() and other.exists():
            one, other = other, one
        password = secret(one)
        if not other.exists():
            write_private(other, password + "\n")
        elif other.read_text(encoding="ascii").strip() != password:
            raise KeyRefused(
                f"{one} and {other} hold different passwords.",
                "Remove the wrong one and run this again: it is then made like the other.",
            )

    def _users(self, text: str) -> None:
        make_directory(self.users_conf.parent, 0o755)
        if not self.users_conf.exists() or self.users_conf.read_text(encoding="utf-8") != text:
            write_private(self.users_conf, text)
        self.users_conf.chmod(0o644)  # no secret, and nats-server may be another user


def with_superuser(dsn: str, provisioning: Path) -> str:
    """The administrator's address with the superuser's password, unless it holds one. Raises KeyRefused."""
    if holds_password(dsn):
        return dsn
    return with_password(dsn, _read(provisioning / SUPERUSER))


def role_passwords(provisioning: Path) -> dict[str, str]:
    """The passwords of all roles, from the folder that provisioning is given. Raises KeyRefused."""
    files = {role_of(service): provisioning / "passwords" / service for service in Service}
    return {role: _read(path) for role, path in files.items()} | {ANON: _read(provisioning / "passwords" / READER)}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise KeyRefused(
            f"The password in {path} cannot be read: {error}.", "`backup-manager secrets` makes it."
        ) from error


def _private_directory(path: Path) -> None:
    make_directory(path, PRIVATE)
    if path.stat().st_mode & 0o777 != PRIVATE:
        path.chmod(PRIVATE)
