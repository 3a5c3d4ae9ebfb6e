"""What becomes of restores: asked for, started, under way, ended. `restore` is the id of the request, in all of them.

Paths are those inside the restore point, percent-encoded: names on disk are bytes.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from shared.domain.event import Event, Kind


class RestoreRequested(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """Somebody wants a snapshot or golden copy back, or parts of it. No paths means all of it.

    `target` is `folder` (below `folder` on the server) or `host` (beside the original, or with `over_original` in its
    place). `by` is who says so, unchecked.
    """

    restore: UUID
    slot: datetime
    kind: Kind
    point: str
    target: str
    paths: tuple[str, ...] = ()
    folder: str = ""
    over_original: bool = False
    by: str = ""


class RestoreStarted(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A worker claimed a request."""

    run: UUID
    slot: datetime
    restore: UUID
    store: str
    worker: str
    attempt: int = 1


class RestoreProgressed(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """How far a restore is. `stage` is transfer or verify; `transferred_bytes` is what this stage has gone through."""

    run: UUID
    restore: UUID
    stage: str
    files: int
    transferred_bytes: int
    bytes_per_second: int
    percent: int
    eta_seconds: int | None = None


class RestoreCompleted(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """Everything that was asked for is there and was compared with the restore point.

    `places` are where it lies. `verified_files` were compared by content, `checked_files` of them with the checksum
    of the backup.
    """

    run: UUID
    slot: datetime
    restore: UUID
    places: tuple[str, ...]
    files: int
    directories: int
    size_bytes: int
    verified_files: int
    duration_seconds: float
    checked_files: int = 0
    warnings: tuple[str, ...] = ()


class RestoreFailed(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A try to restore ended badly. `left` is what of it still lies there; `final` means it is not tried again."""

    run: UUID
    slot: datetime
    restore: UUID
    code: str
    message: str
    hint: str = ""
    attempt: int = 1
    final: bool = True
    left: tuple[str, ...] = ()


class RestoreCancelled(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A restore was called off, before it began (no run) or in the middle; `left` is what of it still lies there."""

    slot: datetime
    restore: UUID
    run: UUID | None = None
    by: str = ""
    left: tuple[str, ...] = ()


class RestoreAbandoned(Event, frozen=True, gc=False, tag=True, kw_only=True):
    """A restore's worker vanished or was stopped; the request waits to be begun anew."""

    run: UUID
    slot: datetime
    restore: UUID
