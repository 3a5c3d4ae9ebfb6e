"""Where on its drive and machine a service may write at all; the kernel holds it to that (decision D37)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from shared.adapters.confinement import MayWrite, confine
from shared.adapters.store import Store
from shared.config import Settings
from shared.runtime.stores import mounted_stores

ALWAYS: Final = (Path("/dev/null"),)
"""Every program is started with it."""

Ask = Callable[[Settings], MayWrite]

log = logging.getLogger(__name__)


def nowhere(_: Settings) -> MayWrite:
    """For a service that only reads, and tells the bus and the log."""
    return MayWrite()


def in_host_folders(settings: Settings, *names: str) -> list[Path]:
    """These parts of each host's folder on the drive, or all of it; made when they are not there.

    Of every store that is mounted here. Raises StoreRefused when none is. A host that is new in the settings needs a
    new start, as everything new in the settings does, and so does a drive that comes later.
    """
    found: list[Path] = []
    for store in mounted_stores(settings).values():
        try:
            found += _in_host_folders(settings, store, names)
        finally:
            store.close()
    return found


def _in_host_folders(settings: Settings, store: Store, names: Sequence[str]) -> Iterator[Path]:
    mine = {host.name for host in settings.hosts if host.store == store.identity.name}
    for host in sorted({*store.hosts(), *mine}):
        with store.folder(host) as folder:
            yield from [folder.path / name for name in names] or [folder.path]


def confine_service(settings: Settings, may_write: Ask) -> None:
    """Hold this process and all that it starts to what it may write. Raises StoreRefused and OSError."""
    found = may_write(settings)
    if not confine(found._replace(all_of=(*ALWAYS, *found.all_of))):
        log.warning(
            "This kernel has no Landlock: only the rights of its user keep this service from writing elsewhere."
        )
