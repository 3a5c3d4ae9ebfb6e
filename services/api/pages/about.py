"""What every page says about itself: which moment it shows, and how new it is."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from services.api.live import Live


def about(live: Live, at: datetime | None, now: datetime) -> dict[str, Any]:
    """What the frame of each page is given."""
    return {"at": at, "still": False, "now": now, "position": live.state.position, "log_is_away": live.log_is_away}
