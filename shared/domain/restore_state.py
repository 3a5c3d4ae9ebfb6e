"""What is known of one restore, from its request to its end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from shared.domain.event import Kind

KEPT_RESTORES: Final = 50
"""So many of a host are remembered; the log has them all."""

OPEN: Final = frozenset({"waiting", "running"})
"""The outcomes of a restore that has not ended."""


class RestoreState(msgspec.Struct, gc=False, kw_only=True):
    """A restore: `outcome` is waiting, running, completed, failed or cancelled; `runs` are its tries."""

    restore: UUID
    slot: datetime
    kind: Kind
    point: str
    target: str
    paths: tuple[str, ...] = ()
    folder: str = ""
    over_original: bool = False
    by: str = ""
    requested_us: int = 0
    outcome: str = "waiting"
    runs: tuple[UUID, ...] = ()
    started_us: int | None = None
    ended_us: int | None = None
    stage: str = ""
    files: int = 0
    transferred_bytes: int = 0
    bytes_per_second: int = 0
    percent: int = 0
    eta_seconds: int | None = None
    verified_files: int = 0
    places: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    message: str = ""
    hint: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.outcome in OPEN

    @property
    def requested_at(self) -> datetime:
        """When it was asked for."""
        return _EPOCH + timedelta(microseconds=self.requested_us)

    @property
    def ended_at(self) -> datetime | None:
        """When it ended."""
        return None if self.ended_us is None else _EPOCH + timedelta(microseconds=self.ended_us)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def open_restores(restores: dict[str, RestoreState]) -> list[RestoreState]:
    """Those that have not ended, oldest first."""
    return sorted((one for one in restores.values() if one.is_open), key=lambda one: one.restore.int)


def last_proven(restores: dict[str, RestoreState]) -> RestoreState | None:
    """The newest restore that was completed, and so verified."""
    completed = [one for one in restores.values() if one.outcome == "completed"]
    return max(completed, key=lambda one: one.ended_us or 0, default=None)
