"""The image by itself: a service that cannot run says why in one line, and is not started again at once."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest

from shared.adapters import process
from shared.adapters.store import Store
from shared.domain.names import StoreName
from tests.support.containers import IMAGE, build_image, why_not

pytestmark = pytest.mark.timeout(900)  # the first test builds the image

BOUND_SECONDS: Final = 90
REST_SECONDS: Final = 10
HARDENED: Final = (
    "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true", "--tmpfs=/tmp", "--network", "none",
    "--init", "--user", "0:0", "--restart", "always",
)  # fmt: skip


async def docker(*words: str) -> str:
    done = await process.run(["docker", *words], timeout_seconds=BOUND_SECONDS)
    assert done.returncode == 0, done.said
    return done.stdout.decode()


@pytest.fixture
async def image() -> str:
    reason = await why_not()
    if reason:
        pytest.skip(reason)
    await build_image()
    return IMAGE


@asynccontextmanager
async def restarted(image: str, service: str, *options: str) -> AsyncIterator[dict[str, Any]]:
    """What the engine knows of a service that ended and was started again, once."""
    argv = ["run", "-d", *HARDENED, *options, image, "python", "-m", f"services.{service}"]
    container = (await docker(*argv)).strip()
    try:
        async with asyncio.timeout(BOUND_SECONDS):
            while not (found := json.loads(await docker("inspect", container)))[0]["RestartCount"]:  # noqa: ASYNC110  # the engine tells nobody
                await asyncio.sleep(0.5)
        yield found[0]
    finally:
        await docker("rm", "-f", "-v", container)


async def errors_of(container: str) -> list[str]:
    done = await process.run(["docker", "logs", container], timeout_seconds=BOUND_SECONDS)
    told = [json.loads(line) for line in done.stderr.decode().splitlines()]
    return [line["message"] for line in told if line["level"] in {"error", "critical"}]


def moment(text: str) -> datetime:
    """A moment as the engine writes it, to the nanosecond."""
    return datetime.fromisoformat(text[:19] + "+00:00")


async def test_settings_that_are_missing(image: str) -> None:
    async with restarted(image, "scheduler") as found:
        # It is counted before it is started: only one of the two may be the later one.
        ended = max(moment(found["State"][at]) for at in ("StartedAt", "FinishedAt"))
        lived = ended - moment(found["Created"])
        assert lived.total_seconds() >= REST_SECONDS
        first = (await errors_of(found["Id"]))[0]
        assert "NATS_URL is not set; a service needs it to run." in first


async def test_a_drive_that_is_mounted_read_only(image: str, place: Path) -> None:
    (place / "drive").mkdir()
    Store.create(place / "drive", StoreName("main"), uuid.uuid4()).close()
    options = ("-e", "NATS_URL=nats://127.0.0.1:1", "-e", "POSTGRES_DSN=postgresql://nobody@127.0.0.1:1/none")
    async with restarted(image, "snapshotter", *options, "-v", f"{place / 'drive'}:/backup:ro") as found:
        lived = moment(found["State"]["StartedAt"]) - moment(found["Created"])
        assert lived.total_seconds() >= REST_SECONDS
        first = (await errors_of(found["Id"]))[0]
        assert first == "/backup is mounted read-only. Remount it read-write."
    assert [entry.name for entry in (place / "drive").iterdir()] == [".backup-root.json"]
