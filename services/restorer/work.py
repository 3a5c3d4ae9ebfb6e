"""What one try to restore is given, and what it makes."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from services.restorer.progress import Progress
from services.restorer.selection import Counted, Source
from shared.adapters.filesystem import FileLock
from shared.adapters.store import Store
from shared.config import HostSettings, Settings
from shared.domain.restore_state import RestoreState


@dataclass(slots=True)
class Work:
    """One run. `left` is what of it lies where, as far as it has come: a name for each place."""

    run: UUID
    wish: RestoreState
    host: HostSettings
    settings: Settings
    store: Store
    lock: FileLock
    source: Source
    paths: list[bytes]
    counted: Counted
    progress: Progress
    acls: bool
    left: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Made:
    """What a run made and found right. `checked_files` were compared with the checksum of their backup."""

    places: tuple[str, ...]
    verified_files: int
    checked_files: int
    warnings: tuple[str, ...] = ()
