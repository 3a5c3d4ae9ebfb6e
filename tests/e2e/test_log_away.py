"""Postgres is stopped during a run: the snapshot completes, its events arrive once it is back, in order, once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from services.cli.demo_home import build_home
from services.embedded.postgres import EmbeddedPostgres
from shared.domain.events import Recorded, SnapshotCompleted, SnapshotProgressed, SnapshotStarted
from shared.runtime.provision import provision_log
from tests.support.installation import installation, of_type

HOST = "web"
PASSWORD = "only-for-this-test"


async def test_a_snapshot_completes_without_the_log_and_is_told_later(place: Path) -> None:
    async with EmbeddedPostgres(place / "data") as postgres:
        await provision_log(postgres.backup_admin_dsn, {"backup_worker": PASSWORD})
        env = (
            f"POSTGRES_DSN={postgres.dsn('backup_worker', PASSWORD)}\nPOSTGRES_ADMIN_DSN={postgres.backup_admin_dsn}\n"
        )
        async with installation(place, [HOST], host_toml="bandwidth_limit_kib = 4000\n", env=env) as system:
            build_home(system.source(HOST), files=300)
            await system.start()
            await system.wait_for(lambda events: len(of_type(events, SnapshotStarted)) == 1, what="The start")
            await postgres.stop()
            async with asyncio.timeout(60):
                while not (system.folder(HOST) / "current").exists():  # noqa: ASYNC110  # the drive tells nobody
                    await asyncio.sleep(0.05)
            await postgres.start()
            await system.wait_for(lambda events: len(of_type(events, SnapshotCompleted)) == 1, what="The news")
            events = await system.one_more_run(HOST)
            mine = [event for event in events if event.stream == f"host-{HOST}"]
            assert [type(event.event) for event in mine if not isinstance(event.event, SnapshotProgressed)][:2] == [
                SnapshotStarted,
                SnapshotCompleted,
            ]
            assert [event.version for event in mine] == list(range(1, len(mine) + 1))
            assert slots(events) == sorted(set(slots(events)))
            await system.cli("audit")


def slots(events: list[Recorded]) -> list[str]:
    found = [recorded.event for recorded in of_type(events, SnapshotCompleted)]
    return [str(event.slot) for event in found if isinstance(event, SnapshotCompleted)]
