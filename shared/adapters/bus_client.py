"""Connecting to the bus as one of its users, and saying in words what the server forbids a user.

A forbidden subject shows as nothing but a time-out at the caller; what was forbidden comes beside it, from the server.
"""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import nats.errors
from nats.aio.client import Client

from shared.adapters.bus_permissions import inbox_prefix
from shared.adapters.nkeys import public_key, signature
from shared.domain.errors import BackupManagerError, KeyRefused

RECONNECT_WAIT_SECONDS: Final = 0.5
KEY_BYTES_MAX: Final = 4096
# The server says 'Permissions Violation for Publish to "tick.x"'; the client passes it on in lower case.
_FORBIDDEN: Final = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"')
_REFUSED: Final = "authorization violation"

log = logging.getLogger(__name__)


class BusUnavailable(BackupManagerError):
    """The bus does not answer now."""


class BusForbids(BusUnavailable):
    """The bus does not let this user in, or forbids it a subject: a person has to mend that."""


class NoTls(nats.errors.Error):
    """The address says tls://, and who answers there does not speak it."""


@dataclass(frozen=True, slots=True)
class BusUser:
    """Who connects: a name, and the file that holds the seed of its key where the bus has users."""

    name: str
    nkey_file: Path | None = None


@dataclass(slots=True)
class Line:
    """What is known of a connection beside its messages."""

    user: BusUser
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    connected: bool = False
    why: BusForbids | None = None

    def forbid(self, why: BusForbids) -> None:
        """Note what the server said: a connection that may not do its work is of no more use than a closed one."""
        self.why = why
        self.closed.set()

    def failed(self, sentence: str) -> BusUnavailable:
        """Why a call failed: what the server forbade, if it did, else the sentence."""
        return self.why or BusUnavailable(sentence)

    async def heard(self, error: Exception) -> None:
        """The server, or the client itself, reports something. Raises BusForbids while nothing is connected."""
        said = str(error)
        if isinstance(error, NoTls) and not self.connected:
            raise BusForbids(
                "NATS_URL says tls://, and the bus speaks no TLS.",
                "Give nats.conf a tls section; if it has one, somebody may be in between.",
            )
        if found := _FORBIDDEN.search(said):
            self.forbid(_forbidden(self.user, found[1], found[2]))
        elif _REFUSED in said.lower():
            why = _refused(self.user)
            if self.connected:  # a server that came back with other users: work under way is not given up for it
                log.error("%s", why)
            else:
                raise why  # it comes out of `connect`, which would ask for ever
        else:
            log.warning("The bus reports: %r", error)


class KeyedClient(Client):
    """A client that signs with a key of ours; nats-py's own way needs a package that is not installed."""

    seed: str = ""

    @classmethod
    async def plainly(cls, url: str, user: BusUser) -> KeyedClient:
        """A client with nothing of this product in it but the key, as a foreign program has one. Raises KeyRefused."""
        client = cls()
        client.seed = "" if user.nkey_file is None else read_seed(user.nkey_file)
        await client.connect(url.split(","), nkeys_seed_str=client.seed or None, inbox_prefix=inbox_prefix(user.name))
        return client

    def _connect_command(self) -> bytes:
        # nats-py goes on in the clear when the server says that it wants no TLS, whatever the address says.
        server = self._current_server
        if server is not None and server.uri.scheme == "tls" and not self._server_info.get("tls_required"):
            raise NoTls
        return super()._connect_command()

    def _setup_nkeys_seed_connect(self) -> None:
        self._public_nkey = public_key(self.seed)
        self._signature_cb = lambda nonce: signature(self.seed, nonce)


async def open_client(url: str, line: Line, timeout_seconds: float) -> Client:
    """Connect, trying again while the server is not there. Raises BusUnavailable, BusForbids and KeyRefused."""
    seed = "" if line.user.nkey_file is None else read_seed(line.user.nkey_file)
    try:
        async with asyncio.timeout(timeout_seconds):
            client = await _connected(url, line, seed)
    except TimeoutError as error:
        raise BusUnavailable("The bus cannot be reached.", "Is nats-server running, and is NATS_URL right?") from error
    line.connected = True
    return client


def read_seed(path: Path) -> str:
    """The seed in a file. Raises KeyRefused."""
    hint = "NATS_NKEY_FILE must be a file that `backup-manager secrets` made, readable for this user only."
    try:
        with path.open("rb") as file:
            seed = file.read(KEY_BYTES_MAX).decode("ascii", "replace").strip()
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise KeyRefused(f"The key for the bus, {path}, cannot be read: {reason}.", hint) from error
    try:
        public_key(seed)
    except KeyRefused as error:
        raise KeyRefused(f"{path} holds no key for the bus. {error.message}", hint) from error
    return seed


async def _connected(url: str, line: Line, seed: str) -> Client:
    async def on_disconnected() -> None:
        if not line.leaving.is_set():
            log.warning("The bus is disconnected; reconnecting.")

    async def on_reconnected() -> None:
        log.info("The bus is connected again.")

    async def on_closed() -> None:
        line.closed.set()

    while True:
        client = KeyedClient()
        client.seed = seed
        try:
            await client.connect(
                url.split(","),
                name=line.user.name,
                connect_timeout=2,
                allow_reconnect=True,
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_WAIT_SECONDS,  # type: ignore[arg-type]  # it is only slept for
                ping_interval=20,
                nkeys_seed_str=seed or None,
                inbox_prefix=inbox_prefix(line.user.name),
                error_cb=line.heard,
                disconnected_cb=on_disconnected,
                reconnected_cb=on_reconnected,
                closed_cb=on_closed,
            )
        except (nats.errors.Error, OSError) as error:
            log.warning("The bus cannot be reached yet: %r", error)
            await client.close()  # a client that could not connect keeps its socket
            line.closed.clear()
            await asyncio.sleep(RECONNECT_WAIT_SECONDS)
        except BusForbids:
            await client.close()
            raise
        else:
            return client


def _refused(user: BusUser) -> BusForbids:
    if user.nkey_file is None:
        return BusForbids(
            f"The bus does not let {user.name} in without a key, or NATS_URL has a wrong password.",
            "Set NATS_NKEY_FILE to the key of this service, which `backup-manager secrets` makes.",
        )
    return BusForbids(
        f"The bus does not know the key of {user.name} in {user.nkey_file}.",
        "Run `backup-manager secrets` again, see that nats.conf includes its users.conf, and reload nats-server.",
    )


def _forbidden(user: BusUser, what: str, subject: str) -> BusForbids:
    verb = "publish on" if what == "publish" else "subscribe to"
    return BusForbids(
        f"The bus forbids {user.name} to {verb} {subject}.",
        "Is NATS_NKEY_FILE this service's own key, and does the bus have the users.conf that was made for these stores?"
        " `backup-manager secrets` makes it again.",
    )
