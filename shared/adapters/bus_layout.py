"""The streams and consumers of the bus, declared in one place (DESIGN section 4)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from shared.domain.events import Job
from shared.domain.messages import CANCEL_SUBJECT, TRIGGER_SUBJECT, tick_subject

TICKS: Final = "TICKS"
TRIGGERS: Final = "TRIGGERS"
CONTROL: Final = "CONTROL"
DEAD: Final = "DEAD"
SCHEDULER: Final = "scheduler"

HOUR_SECONDS: Final = 3600
DAY_SECONDS: Final = 24 * HOUR_SECONDS

TRIGGERED_JOBS: Final = (Job.SNAPSHOT, Job.ARCHIVE, Job.RETENTION)
"""The jobs that have slots and that a trigger can ask for."""

WORKED_JOBS: Final = (*TRIGGERED_JOBS, Job.RESTORE)
"""The jobs that have a worker in this version."""


def streams(replicas: int = 1) -> list[StreamConfig]:
    """What is kept on the bus, for how long (seconds), and on how many servers of a cluster; consumers follow."""
    declared = [
        StreamConfig(
            name=TICKS,
            subjects=["tick.*.*.*"],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            # One message for each job and host, refused while the one before is pending or being worked on: this
            # is the deduplication guard, made by the server.
            max_msgs_per_subject=1,
            discard=DiscardPolicy.NEW,
            discard_new_per_subject=True,
            duplicate_window=HOUR_SECONDS,
        ),
        StreamConfig(
            name=TRIGGERS,
            subjects=[TRIGGER_SUBJECT, f"{TRIGGER_SUBJECT}.*"],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            max_age=DAY_SECONDS,
            max_bytes=256 * 1024 * 1024,
        ),
        StreamConfig(
            name=CONTROL,
            subjects=[f"{CANCEL_SUBJECT}.*"],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            max_msgs_per_subject=1,
            max_age=HOUR_SECONDS,
            allow_direct=True,
        ),
        StreamConfig(
            name=DEAD,
            subjects=[
                f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{TICKS}.*",
                f"$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.{TICKS}.*",
            ],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            max_age=30 * DAY_SECONDS,
        ),
    ]
    return [stream.evolve(num_replicas=replicas) for stream in declared]


def consumers(stores: Iterable[str], ack_wait_seconds: int) -> list[tuple[str, ConsumerConfig]]:
    """The durable pull consumers, each with the stream it reads."""
    triggers = ConsumerConfig(
        durable_name=SCHEDULER,
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=30,
        max_deliver=-1,
    )
    ticks = [
        ConsumerConfig(
            durable_name=tick_consumer(job, store),
            filter_subject=tick_subject(job, store, "*"),
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ack_wait_seconds,
            max_deliver=-1,
            max_ack_pending=1000,
        )
        for store in sorted(set(stores))
        for job in WORKED_JOBS
    ]
    return [(TRIGGERS, triggers), *((TICKS, tick) for tick in ticks)]


def tick_consumer(job: Job, store: str) -> str:
    """The name of the consumer that all workers of a job and store share."""
    return f"{job}-{store}"
