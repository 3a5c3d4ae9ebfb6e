"""The stores besides the one at BACKUP_ROOT: the tables [stores.<name>] of backup.toml."""

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations
from pathlib import Path
from typing import Final

from shared.config import rules
from shared.config.problems import Problems, Rule, Table, Unallowed
from shared.config.settings import DEFAULT_STORE, Settings, StoreSettings
from shared.domain.names import StoreName

STORE_KEYS: Final = frozenset({"root"})


def stores_of_tables(tables: Table) -> tuple[StoreSettings, ...]:
    """Every store that has a table, in the order of its name, without those whose root is missing or wrong."""
    names = sorted(key for key in tables.content if tables.named(key, _another_store))
    found = [_store(StoreName(name), tables) for name in names]
    return tuple(store for store in found if store is not None)


def known_store(known: Collection[str]) -> Rule[StoreName]:
    """The name of a store that there is."""

    def rule(value: object) -> StoreName:
        name = rules.store_name(value)
        if name not in known:
            raise Unallowed(f"one of {', '.join(known)}; another store needs a table [stores.{name}] with its root")
        return name

    return rule


def check_roots(settings: Settings, problems: Problems) -> None:
    """Two stores never share a directory: what one of them keeps would pass for a host of the other."""
    for (first, root), (second, other) in combinations(settings.stores.items(), 2):
        if root.is_relative_to(other) or other.is_relative_to(root):
            problems.add(
                f"{root_key(settings, second)} is {str(other)!r}, but must not be, contain or lie in "
                f"{root_key(settings, first)} ({root}): every store has a drive or a directory of its own."
            )


def root_key(settings: Settings, store: str) -> str:
    """The name of the setting that says where a store is."""
    return "BACKUP_ROOT" if store == settings.store else f"stores.{store}.root"


def _store(name: StoreName, tables: Table) -> StoreSettings | None:
    table = tables.table(name, known=STORE_KEYS)
    if "root" not in table.content and isinstance(tables.content[name], dict):
        tables.wrong(name, f"a table with root, the absolute path of the drive, written as [stores.{name}]")
    root = table.value("root", rules.store_root, None)
    return None if root is None else StoreSettings(name=name, root=Path(root))


def _another_store(value: str) -> str:
    name = rules.store_name(value)
    if name == DEFAULT_STORE:
        raise Unallowed(f"another one than {DEFAULT_STORE}, which is the store at BACKUP_ROOT")
    return name
