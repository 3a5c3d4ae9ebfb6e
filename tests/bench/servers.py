"""The embedded Postgres and nats-server, set up as the product sets them up, for as long as a block lasts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.embedded.nats import EmbeddedNats
from services.embedded.postgres import EmbeddedPostgres
from shared.config import HostSettings, Settings
from shared.runtime.provision import provision

PASSWORDS: Final = {"backup_worker": "worker", "backup_api": "api", "backup_anon": "anon"}
"""Of servers that only this process can reach, and that are gone in a minute."""


@dataclass(frozen=True, slots=True)
class Servers:
    """How to reach them; `dsn` is that of the services, `admin_dsn` that of the superuser."""

    dsn: str
    admin_dsn: str
    nats_url: str


@asynccontextmanager
async def servers(folder: Path, settings: Settings) -> AsyncIterator[Servers]:
    """Both servers with schema, streams and consumers."""
    async with AsyncExitStack() as stack:
        postgres = await stack.enter_async_context(EmbeddedPostgres(folder))
        nats = await stack.enter_async_context(EmbeddedNats(folder))
        await provision(settings, admin_dsn=postgres.backup_admin_dsn, nats_url=nats.url, passwords=PASSWORDS)
        dsn = postgres.dsn("backup_worker", PASSWORDS["backup_worker"])
        yield Servers(dsn, postgres.backup_admin_dsn, nats.url)


def settings_of(folder: Path, hosts: tuple[HostSettings, ...] = ()) -> Settings:
    """Settings of an installation in a folder."""
    return Settings(backup_root=folder / "store", data_dir=folder / "data", hosts=hosts)
