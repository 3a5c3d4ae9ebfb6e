"""What is kept for how long."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

FLOOR: Final = 3
"""So many complete snapshots of a host are never removed, whatever a policy says."""


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All snapshots for some hours, then the first of each day for some days, then the first of each month.

    Days and months are counted in `time_zone`, by the slots of the snapshots; ages are elapsed time. Archives are
    kept by days, golden copies by months.
    """

    hourly_hours: int = 720
    daily_days: int = 180
    monthly_months: int = 24
    archive_days: int = 5
    golden_months: int = 24
    time_zone: str = "UTC"

    def version(self) -> str:
        """Twelve hex digits that name exactly these values."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()[:12]
