"""What was computed for one request and serves the next ones, until something changes or a minute passes.

A piece is of one host and the same for everybody who may see that host; a page is kept for whom it was made.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from typing import Final, Generic, TypeAlias, TypeVar

from services.api.status import HostStatus, Status, host_status
from services.api.view import Card, make_card
from shared.config import Settings
from shared.domain.host_state import HostState
from shared.domain.projection import State

MOST_PAGES: Final = 8

Key: TypeAlias = tuple[object, ...]
_Piece = TypeVar("_Piece")


class Pieces(Generic[_Piece]):
    """A piece for each host, as long as what it was made of is the same."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[Key, _Piece]] = {}

    def of(self, name: str, key: Key, make: Callable[[], _Piece]) -> _Piece:
        """The piece of a host, made when there is none for this key."""
        kept = self._kept.get(name)
        if kept is not None and kept[0] == key:
            return kept[1]
        piece = make()
        self._kept[name] = (key, piece)
        return piece


class Kept:
    """What is kept of the present. The past is not: nobody asks for the same moment twice."""

    def __init__(self) -> None:
        self._cards = Pieces[Card]()
        self._statuses = Pieces[HostStatus]()
        self._pages: OrderedDict[Key, bytes] = OrderedDict()
        self.turn = asyncio.Lock()

    def card(self, settings: Settings, name: str, host: HostState, now: datetime) -> Card:
        """What the dashboard says of a host now."""
        key = (host.version, minute_of(now))
        return self._cards.of(name, key, lambda: make_card(settings, name, host, now))

    def status(self, state: State, names: list[str]) -> Status:
        """The status of these hosts now."""
        hosts = {name: self._status(name, state.hosts.get(name, _NOTHING)) for name in names}
        return Status(any(host.status == "running" for host in hosts.values()), hosts)

    def _status(self, name: str, host: HostState) -> HostStatus:
        return self._statuses.of(name, (host.version,), lambda: host_status(host))

    def page(self, key: Key) -> bytes | None:
        """A page that was made for this key: everything it depends on, and for whom."""
        return self._pages.get(key)

    def keep(self, key: Key, page: bytes) -> bytes:
        """Keep a page, and no more than a few."""
        self._pages[key] = page
        while len(self._pages) > MOST_PAGES:
            self._pages.popitem(last=False)
        return page


def minute_of(now: datetime) -> int:
    """In which minute this is: what says how long ago something was says the same all through it."""
    return int(now.timestamp()) // 60


_NOTHING: Final = HostState()
