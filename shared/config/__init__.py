"""The settings of an installation: `.env`, the environment and an optional backup.toml, read into frozen values.

reading    the one place that touches files and the process; load_settings
dotenv     the syntax of .env
building   from what was given to Settings
hosts      from HOSTS and [hosts.*] to HostSettings
stores     from [stores.*] to StoreSettings
excludes   the categories of files that are not backed up
rules      what each kind of value may be
problems   how a wrong value is said
settings   the result
"""

from __future__ import annotations

from shared.config.excludes import DEFAULT_CATEGORIES, DEFAULT_EXCLUDES
from shared.config.reading import load_settings
from shared.config.settings import BusTiming, HostSettings, Settings, StoreSettings

__all__ = [
    "DEFAULT_CATEGORIES",
    "DEFAULT_EXCLUDES",
    "BusTiming",
    "HostSettings",
    "Settings",
    "StoreSettings",
    "load_settings",
]
