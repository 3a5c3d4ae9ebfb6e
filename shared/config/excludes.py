"""The files that are not backed up, in categories that can be switched off by name.

The patterns are rsync's: one without a leading slash matches at every depth, a trailing slash matches
directories only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Final

DEFAULT_CATEGORIES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "caches": (".cache/", ".local/", ".npm/", ".yarn/", "*cache*"),
        "build": ("node_modules/", "__pycache__/", "target/", "build/", "dist/"),
        "python": ("venv/", "env/", ".conda/", "miniconda3/"),
        "objects": ("*.o", "*.so", "*.pyc", "*.class", "*.jar"),
        "disk_images": ("*.iso", "*.vmdk", "*.qcow2", "*.ova"),
        "version_control": (".git/", ".svn/", ".hg/"),
        "profiles": (".mozilla/", ".firefox/", ".thunderbird/"),
        "media": ("Downloads/", "Music/", "Videos/", "Pictures/"),
        "temp": ("tmp/", "*.tmp", "*.log", "logs/"),
        "pseudo": ("proc/", "sys/", "dev/", "run/"),
    }
)
"""What is left out unless a category is switched off."""


def exclude_list(
    categories: Mapping[str, tuple[str, ...]], *, off: Collection[str], own: Collection[str]
) -> tuple[str, ...]:
    """The patterns of every category that is not off, then the own ones; each once, in the order given."""
    patterns = [pattern for name, listed in categories.items() if name not in off for pattern in listed]
    return tuple(dict.fromkeys([*patterns, *own]))


DEFAULT_EXCLUDES: Final = exclude_list(DEFAULT_CATEGORIES, off=(), own=())
"""The patterns of a host about which nothing is said."""
