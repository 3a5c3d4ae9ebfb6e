"""From the environment to a running service: the same for every one of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from shared.adapters.clock import SystemClock
from shared.config import Settings, load_settings
from shared.domain.errors import SettingsRefused
from shared.runtime import lifetime
from shared.runtime.confined import Ask, confine_service
from shared.runtime.lifetime import Lifetime
from shared.runtime.service import EXIT_OK, run_service

ENV_FILE = "BACKUP_ENV_FILE"
TOML_FILE = "BACKUP_TOML_FILE"


def start_service(
    name: str, serve: Callable[[Settings, asyncio.Event], Awaitable[None]], may_write: Ask | None = None
) -> int:
    """Load the settings and run a service; returns the exit code.

    `may_write` tells where it may write at all; None is for one that its user's rights alone hold back.
    """
    clock = SystemClock()
    began = clock.monotonic()
    asked = Lifetime()

    async def main(stop: asyncio.Event) -> None:
        nonlocal asked
        asked = Lifetime.asked_for(os.environ)
        settings = service_settings()
        async with asked.shown():
            if may_write is not None:
                confine_service(settings, may_write)  # before anything has begun a second thread
            await serve(settings, stop)

    code = run_service(name, main)
    if code != EXIT_OK:
        asked.wait_out(clock.monotonic() - began)
    return code


def service_settings() -> Settings:
    """The settings of a process that needs the bus and the log. Raises SettingsRefused."""
    settings = settings_here()
    missing = [
        name for name, value in (("NATS_URL", settings.nats_url), ("POSTGRES_DSN", settings.postgres_dsn)) if not value
    ]
    if missing:
        raise SettingsRefused(tuple(f"{name} is not set; a service needs it to run." for name in missing))
    return settings


def settings_here() -> Settings:
    """The settings of the environment, .env and backup.toml. Raises SettingsRefused."""
    environ = {name: value for name, value in os.environ.items() if name not in lifetime.NAMES}
    return load_settings(
        environ,
        env_file=_file(environ.pop(ENV_FILE, None), ".env"),
        toml_file=_file(environ.pop(TOML_FILE, None), "backup.toml"),
    )


def _file(named: str | None, usual: str) -> Path | None:
    """A file that was asked for by name must be there; the usual one only counts when it is."""
    if named is not None:
        return Path(named)
    return Path(usual) if Path(usual).exists() else None
