"""What a host's folder looks like before anybody works in it: no partial trees of dead runs, links that are right."""

from __future__ import annotations

import logging
from datetime import datetime

from shared.adapters.store import HostFolder
from shared.adapters.threads import in_thread
from shared.domain.names import HostName

log = logging.getLogger(__name__)


async def tidy(host: HostName, folder: HostFolder, upto: datetime) -> None:
    """Make it so; the links show nothing later than `upto`. The caller holds the lock. Raises OSError."""
    if removed := await in_thread(folder.remove_partials):
        log.info("Removed %d partial trees of dead runs.", removed)
    try:
        await in_thread(folder.point_links, upto)
    except OSError as error:
        # A drive without room for a link has none for a snapshot either: the run that follows says so in the log.
        log.warning("`current` and `latest` of %s could not be set now: %s", host, error)
