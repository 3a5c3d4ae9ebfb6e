"""What a service owes whoever runs it: a sign of life, and no end so soon that it is started again without a rest.

Both are asked for by the environment, as the container image does. A service that failed says why at once, and then
waits before it ends: engines start it again at once, and a journal of a hundred equal lines helps nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shared.config.problems import Unallowed
from shared.config.rules import absolute_path, whole_text
from shared.domain.errors import SettingsRefused

LIFE_FILE: Final = "BACKUP_LIFE_FILE"
LEAST_SECONDS: Final = "BACKUP_LEAST_SECONDS"
NAMES: Final = (LIFE_FILE, LEAST_SECONDS)
LONGEST_SECONDS: Final = 600
SIGN_SECONDS: Final = 15.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lifetime:
    """The file that is touched as long as the service lives, and how long one that fails lives at least."""

    file: Path | None = None
    least_seconds: int = 0

    @classmethod
    def asked_for(cls, environ: Mapping[str, str]) -> Lifetime:
        """What the environment asks for. Raises SettingsRefused."""
        try:
            file = absolute_path(environ[LIFE_FILE]) if environ.get(LIFE_FILE) else None
            least_seconds = whole_text(0, LONGEST_SECONDS)(environ.get(LEAST_SECONDS) or "0")
        except Unallowed as error:
            raise SettingsRefused((f"environment: one of {', '.join(NAMES)} must be {error}.",)) from error
        return cls(file, least_seconds)

    @contextlib.asynccontextmanager
    async def shown(self) -> AsyncIterator[None]:
        """Touch the file while the block lasts; an event loop that stands still touches nothing.

        The file is opened at once: later this process may have given up to write there.
        """
        descriptor = None if self.file is None else _open(self.file)
        if descriptor is None:
            yield
            return
        showing = asyncio.create_task(_show(descriptor), name="sign of life")
        try:
            yield
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
            os.close(descriptor)

    def wait_out(self, lived_seconds: float) -> None:
        """Wait for the rest of the least lifetime; SIGTERM and SIGINT end that at once."""
        rest_seconds = self.least_seconds - lived_seconds
        if rest_seconds <= 0:
            return
        wanted = {signal.SIGTERM, signal.SIGINT}
        signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
        signal.sigtimedwait(wanted, rest_seconds)


def _open(file: Path) -> int | None:
    try:
        return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        log.warning("There will be no sign of life in %s: %s.", file, error.strerror)
        return None


async def _show(descriptor: int) -> None:
    while True:
        os.utime(descriptor)
        await asyncio.sleep(SIGN_SECONDS)
