"""The pages, for people. Without JavaScript everything works; with it, they stay as new as the log."""

from __future__ import annotations

from typing import Any, Final

from services.api.pages import dashboard, history, reading, wishes

PAGES: Final[tuple[Any, ...]] = (*dashboard.PAGES, *history.PAGES, *wishes.PAGES, *reading.PAGES)
