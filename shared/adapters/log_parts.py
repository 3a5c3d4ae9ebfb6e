"""The log as far as it is about some of the hosts, for several processes that fold it side by side."""

from __future__ import annotations

from typing import Final

from shared.adapters.postgres import EVENT_LINE, PAGE_EVENTS, EventLog

# What is no host's goes to the first part, all of it: only hosts are folded independently of everything else.
_PAGE: Final = f"""
    SELECT coalesce(string_agg({EVENT_LINE}, E'\\n' ORDER BY position), '')
      FROM log.events WHERE position > $1 AND position <= $2
       AND CASE WHEN starts_with(stream, 'host-') THEN (hashtext(stream) & 65535) % $4 ELSE 0 END = $3"""  # noqa: S608


class LogPart(EventLog):
    """One of several parts of the log, which together are all of it; `part` counts from 0."""

    def __init__(self, dsn: str, part: int, parts: int) -> None:
        super().__init__(dsn)
        self._part = part
        self._parts = parts
        self.page_events = PAGE_EVENTS * parts

    async def _page(self, number: int, start: int, end: int) -> str:
        async with self._readers[number % 2].use() as connection:
            upto = min(start + self.page_events, end)
            return str(await connection.fetchval(_PAGE, start, upto, self._part, self._parts))
