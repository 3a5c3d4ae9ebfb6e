"""What every event is made of: its base class and the words that more than one event uses."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Job(StrEnum):
    """What a worker does for one host."""

    SNAPSHOT = "snapshot"
    ARCHIVE = "archive"
    RETENTION = "retention"
    RESTORE = "restore"


class Quality(StrEnum):
    """How far a finished snapshot can be trusted; only complete ones count as kept."""

    COMPLETE = "complete"
    DEGRADED = "degraded"
    SUSPECT = "suspect"


class Kind(StrEnum):
    """The three kinds of restore point."""

    SNAPSHOT = "snapshot"
    ARCHIVE = "archive"
    GOLDEN = "golden"


class Event(msgspec.Struct, frozen=True, gc=False, tag=True, tag_field="type"):
    """A past-tense fact."""
