"""Runs one service: event loop, signals, journal, and an end that says what was wrong."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import uvloop

from shared.adapters import journal
from shared.domain.errors import BackupManagerError, SchemaMismatch, SettingsRefused, StoreRefused, ToolMissing

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_MISCONFIGURED: Final = 78
"""EX_CONFIG of sysexits.h: starting again changes nothing until a person does."""

MISCONFIGURED: Final = (SettingsRefused, SchemaMismatch, StoreRefused, ToolMissing)

log = logging.getLogger(__name__)

Main = Callable[[asyncio.Event], Awaitable[None]]


def run_service(name: str, main: Main) -> int:
    """Run a service until SIGTERM or SIGINT sets the event it is given; returns the exit code."""
    journal.configure(name)
    try:
        uvloop.run(_until_signalled(main))
    except BaseExceptionGroup as group:
        return _explain(first_of(group))
    except BackupManagerError as error:
        return _explain(error)
    return EXIT_OK


async def _until_signalled(main: Main) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await main(stop)


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group, however deep."""
    error = group.exceptions[0]
    return first_of(error) if isinstance(error, BaseExceptionGroup) else error


def _explain(error: BaseException) -> int:
    if isinstance(error, BackupManagerError):
        log.error("%s", error)
        return EXIT_MISCONFIGURED if isinstance(error, MISCONFIGURED) else EXIT_FAILED
    log.critical("This is a defect of Backup Manager.", exc_info=error)
    sys.stderr.flush()
    return EXIT_FAILED
