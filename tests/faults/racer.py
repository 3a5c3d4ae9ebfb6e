"""`python -m tests.faults.racer JOB TEXT`: one worker of a race, as its service wires it, with short times."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Final, cast

import msgspec

from services.retention import handler as retention_handler
from services.retention.handler import Retention
from services.snapshotter.handler import Snapshotter
from services.snapshotter.transfer import find_ability
from shared.adapters import journal
from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import Bus
from shared.adapters.postgres import EventLog
from shared.adapters.store import Store
from shared.config import Settings
from shared.domain.events import Job
from shared.runtime import worker as worker_loop
from shared.runtime.cancel import Cancels
from shared.runtime.host_log import HostLog
from shared.runtime.outbox import Outbox
from shared.runtime.rejected import Rejections
from shared.runtime.watch import fail_when_closed
from shared.runtime.worker import Handle, Worker
from tests.faults.observer import Observer

ACK_WAIT_SECONDS: Final = 1
HEARTBEAT_SECONDS: Final = 0.15
LOG_RETRY_SECONDS: Final = 0.5


def encode(settings: Settings, observed: Path) -> str:
    """What a racer is told."""
    return msgspec.json.encode((settings, str(observed)), enc_hook=str).decode()


async def race(job: Job, text: str) -> None:
    """Work ticks off until SIGTERM."""
    settings, observed = msgspec.json.decode(text, type=tuple[Settings, str], dec_hook=lambda kind, value: kind(value))
    retention_handler.LOG_RETRY_SECONDS = LOG_RETRY_SECONDS  # type: ignore[misc]  # thirty seconds are too long for a race
    worker_loop.ERROR_RETRY_SECONDS = 1.0  # type: ignore[misc]
    observer, stop = Observer(Path(observed)), asyncio.Event()
    observer.watch_all()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    store, events = Store.open(settings.backup_root, settings.store), EventLog(settings.postgres_dsn)
    bus = await Bus.connect(settings.nats_url, f"racer-{os.getpid()}")
    rejections, outbox = Rejections(events), Outbox(store, events)
    cancels, clock, name = Cancels(bus, rejections), SystemClock(), f"racer:{os.getpid()}"
    log = HostLog(events, outbox)
    if job is Job.SNAPSHOT:
        ability = await find_ability(attributes=True)
        handle = cast("Handle", Snapshotter(settings, store, log, cancels, ability, clock, name).handle)
    else:
        handle = cast("Handle", Retention(settings, store, log, cancels, clock, name).handle)
    worker = Worker(
        bus.ticks(job, settings.store),
        observer.handling(job, handle),
        rejections.record,
        ack_wait_seconds=ACK_WAIT_SECONDS,
        heartbeat_seconds=HEARTBEAT_SECONDS,
        drain_seconds=1.0,
        clock=clock,
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(outbox.relay(stop))
        tasks.create_task(fail_when_closed(bus, stop))
        await worker.run(stop)
        stop.set()
    await bus.close()
    await events.close()


if __name__ == "__main__":
    journal.configure("racer")
    asyncio.run(race(Job(sys.argv[1]), sys.argv[2]))
