"""The pages, for people. Without JavaScript everything works; with it, they stay as new as the log."""

from __future__ import annotations

from typing import Any, Final

from services.api.pages import account, browse, dashboard, downloads, history, login, reading, restores, users, wishes

PAGES: Final[tuple[Any, ...]] = (
    *dashboard.PAGES,
    *history.PAGES,
    *wishes.PAGES,
    *reading.PAGES,
    *browse.PAGES,
    *downloads.PAGES,
    *restores.PAGES,
    *login.PAGES,
    *users.PAGES,
    *account.PAGES,
)
