"""Whether a tick is for this worker at all: the same question for every job."""

from __future__ import annotations

import logging

from shared.adapters.clock import SystemClock
from shared.adapters.store import Store
from shared.config import HostSettings, Settings
from shared.domain.errors import HostElsewhere, MessageRefused
from shared.domain.host_state import CLOCKS_DIFFER, HostState
from shared.domain.messages import Tick


def refuse_elsewhere(host: str, state: HostState | None, store: Store) -> None:
    """Nothing is done on a store for a host whose restore points are on another one. Raises HostElsewhere.

    Otherwise a changed line in the settings would look like the loss of all that is kept of it.
    """
    if state is not None and state.has_points and state.kept_on not in {"", store.identity.name}:
        raise HostElsewhere(host, state.kept_on, store.identity.name)


log = logging.getLogger(__name__)


def accepted_host(tick: Tick, settings: Settings, store: Store, clock: SystemClock) -> HostSettings | None:
    """The host of a tick, or None when it is not one of this store. Raises MessageRefused for a slot to come."""
    if tick.slot > clock.now() + CLOCKS_DIFFER:
        # Slots only move forward: taken at its word, it would settle all slots until then.
        raise MessageRefused(f"The slot {tick.slot:%Y-%m-%d %H:%M:%S} UTC lies in the future.")
    host = settings.host(tick.host)
    if host is not None and host.store == store.identity.name:
        return host
    log.warning("%s is not a host of this store in the settings; the tick is dropped.", tick.host)
    return None
