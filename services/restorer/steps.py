"""The steps of a run, from which the ids of its events are derived. Stored: a number never changes its meaning."""

from __future__ import annotations

from typing import Final

STARTED: Final = 1
COMPLETED: Final = 2
FAILED: Final = 3
ABANDONED: Final = 4
CANCELLED: Final = 5
FIRST_PROGRESS: Final = 100
