"""What the services say to a person or a log collector: one line each, with host and run where there are any.

On a terminal it is a sentence; elsewhere a JSON object a line. Control characters never get through.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final

import msgspec

from shared.domain.wording import printable

_ABOUT: Final[ContextVar[dict[str, str] | None]] = ContextVar("about", default=None)


@contextmanager
def about(**names: str) -> Iterator[None]:
    """Everything said inside is about this host, run, …"""
    token = _ABOUT.set({**(_ABOUT.get() or {}), **names})
    try:
        yield
    finally:
        _ABOUT.reset(token)


def configure(service: str, *, readable: bool | None = None) -> None:
    """Set the journal of this process up. `readable` chooses sentences; None asks whether this is a terminal."""
    handler = logging.StreamHandler(sys.stderr)
    sentences = sys.stderr.isatty() if readable is None else readable
    handler.setFormatter(_Sentences(service) if sentences else _Objects(service))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # its errors reach us through callbacks


class _Sentences(logging.Formatter):
    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC)
        names = " ".join(f"{key}={value}" for key, value in (_ABOUT.get() or {}).items())
        text = f"{at:%H:%M:%S} {record.levelname.lower():7} {self._service}: {printable(record.getMessage())}"
        return f"{text} [{names}]{_trace(self, record)}" if names else f"{text}{_trace(self, record)}"


class _Objects(logging.Formatter):
    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "service": self._service,
            **(_ABOUT.get() or {}),
            "message": printable(record.getMessage()) + _trace(self, record),
        }
        return msgspec.json.encode(line).decode()


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return "\n" + formatter.formatException(record.exc_info) if record.exc_info else ""
