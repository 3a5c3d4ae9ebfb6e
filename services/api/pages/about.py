"""What every page says about itself: which moment it shows, and how new it is."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from services.api.live import Live


def about(live: Live, at: datetime | None, now: datetime) -> dict[str, Any]:
    """What the frame of each page is given. `keep` is what a link adds to stay in the same past."""
    keep = f"?{urlencode({'at': at.isoformat()})}" if at else ""
    return {"at": at, "now": now, "keep": keep, "position": live.state.position, "log_is_away": live.log_is_away}
