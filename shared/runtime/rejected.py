"""Records messages that could not be understood, without ever standing in the way of the next one."""

from __future__ import annotations

import logging
import secrets

from shared.adapters.clock import SystemClock
from shared.adapters.postgres import EventLog
from shared.domain.errors import LogRefused, LogUnavailable
from shared.domain.events import MessageRejected, NewEvent
from shared.domain.ids import run_id
from shared.domain.messages import preview
from shared.domain.names import REFUSED_STREAM
from shared.domain.wording import printable

MAX_SUBJECT_CHARACTERS = 200
MAX_REASON_CHARACTERS = 400

log = logging.getLogger(__name__)


class Rejections:
    """The list of refused messages in the log."""

    def __init__(self, events: EventLog) -> None:
        self._log = events

    async def record(self, subject: str, reason: str, body: bytes) -> None:
        """Record one."""
        event = MessageRejected(
            subject=printable(subject)[:MAX_SUBJECT_CHARACTERS],
            reason=printable(reason)[:MAX_REASON_CHARACTERS],
            size_bytes=len(body),
            preview=preview(body),
        )
        identity = run_id(SystemClock().unix_ms(), secrets.randbits(58))
        try:
            await self._log.append(REFUSED_STREAM, None, [NewEvent(identity, event)])
        except (LogUnavailable, LogRefused) as error:
            log.warning("The refused message could not be recorded: %s", error.message)
