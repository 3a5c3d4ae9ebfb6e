"""What is simulated: a small installation whose short policy makes a month see a lot of removals."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any, Final
from uuid import UUID

import msgspec

from shared.adapters.store import Store
from shared.config import BusTiming, HostSettings, Settings
from shared.domain.names import HostName, StoreName
from tests.faults.simulation.fake_os import FakePath

HOSTS: Final = 5
STORE: Final = StoreName("main")
ACK_WAIT_SECONDS: Final = 240


def first_settings(random: Random) -> Settings:
    """An installation of five hosts. What is kept is short, so that a month sees a lot of removals."""
    hosts = tuple(
        HostSettings(name=HostName(f"h{number}"), snapshot_interval_hours=random.choice((8, 12, 24, 24)))
        for number in range(HOSTS)
    )
    return Settings(
        backup_root=FakePath("/drive"),  # type: ignore[arg-type]  # as good as one
        data_dir=Path("/data"),
        store=STORE,
        hosts=hosts,
        tar_interval_hours=random.choice((12, 24, 24)),
        hourly_retention_hours=random.choice((24, 36, 48, 72)),
        daily_retention_days=random.randint(2, 6),
        retention_months=1,
        tar_retention_days=random.randint(1, 3),
        trash_hours=random.randint(6, 24),
        nats_url="simulated",
        postgres_dsn="simulated",
        timing=BusTiming(
            ack_wait_seconds=ACK_WAIT_SECONDS,
            heartbeat_seconds=60.0,
            offline_retry_seconds=1800,
            retry_seconds=120,
            max_attempts=3,
        ),
    )


def a_store(world: Any) -> None:
    """Make the drive a store."""
    Store.create(world.settings.backup_root, STORE, UUID(int=world.random.getrandbits(128))).close()


def changed(settings: Settings, **values: Any) -> Settings:
    """Other settings."""
    return msgspec.structs.replace(settings, **values)
