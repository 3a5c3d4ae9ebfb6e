"""Where on its drive and machine a service may write at all; the kernel holds it to that (decision D37)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from shared.adapters.confinement import confine
from shared.adapters.store import Store
from shared.config import Settings

ALWAYS: Final = (Path("/dev/null"),)
"""Every program is started with it."""

MayWrite = Callable[[Settings], Iterable[Path]]

log = logging.getLogger(__name__)


def nowhere(_: Settings) -> Iterable[Path]:
    """For a service that only reads, and tells the bus and the log."""
    return ()


def in_host_folders(settings: Settings, *names: str) -> list[Path]:
    """These parts of each host's folder on the drive, or all of it; made when they are not there.

    Raises StoreRefused. A host that is new in the settings needs a new start, as everything new in the settings does.
    """
    store = Store.open(settings.backup_root, settings.store)
    found = []
    try:
        mine = {host.name for host in settings.hosts if host.store == settings.store}
        for host in sorted({*store.hosts(), *mine}):
            with store.folder(host) as folder:
                found += [folder.path / name for name in names] or [folder.path]
    finally:
        store.close()
    return found


def confine_service(settings: Settings, may_write: MayWrite) -> None:
    """Hold this process and all that it starts to what it may write. Raises StoreRefused and OSError."""
    if not confine([*ALWAYS, *may_write(settings)]):
        log.warning(
            "This kernel has no Landlock: only the rights of its user keep this service from writing elsewhere."
        )
