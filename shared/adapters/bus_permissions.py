"""What each user of the bus may publish and hear: explicit lists, and nothing of JetStream that is not in them.

The server lets through what a list names and refuses everything else. Only `provision` may make or change streams
and consumers. Each user has an inbox of its own, so nobody hears the answers to somebody else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from shared.adapters.bus_layout import (
    CONTROL,
    SCHEDULER,
    TICKS,
    TRIGGERS,
    WORKED_JOBS,
    consumers,
    streams,
    tick_consumer,
)
from shared.domain.events import Job
from shared.domain.messages import CANCEL_SUBJECT, TRIGGER_SUBJECT, tick_subject
from shared.domain.names import StoreName
from shared.domain.writers import Service

PROVISION: Final = "provision"
"""The user that sets the bus up; no service."""

BUS_USERS: Final = (*(str(service) for service in Service), PROVISION)
JOB_OF: Final[Mapping[Service, Job]] = {
    Service.SNAPSHOTTER: Job.SNAPSHOT,
    Service.ARCHIVER: Job.ARCHIVE,
    Service.RETENTION: Job.RETENTION,
    Service.RESTORER: Job.RESTORE,
}
ANY_ACK_WAIT: Final = 1
_SAYS: Final = "# Made by backup-manager, and made again when the stores change. It holds no secrets.\n"


@dataclass(frozen=True, slots=True)
class Permissions:
    """The subjects that a user may publish on, and those that it may subscribe to."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def inbox_prefix(user: str) -> str:
    """Where the answers to a user go."""
    return f"_INBOX_{user}"


def permissions(user: str, stores: Iterable[StoreName]) -> Permissions:
    """What a user may do on the bus of an installation with these stores."""
    names = sorted(set(stores))
    inbox = f"{inbox_prefix(user)}.>"
    if user == PROVISION:
        return Permissions(tuple(_provisioning(names)), (inbox,))
    service = Service(user)
    if service in JOB_OF:
        publish = [subject for store in names for subject in _working(JOB_OF[service], store)]
        return Permissions((*publish, _reading(CONTROL)), (inbox, f"{CANCEL_SUBJECT}.*"))
    if service is Service.SCHEDULER:
        return Permissions(tuple(_scheduling(names)), (inbox,))
    wishes = (TRIGGER_SUBJECT, f"{TRIGGER_SUBJECT}.*", f"{CANCEL_SUBJECT}.*")
    return Permissions(wishes, (inbox,))


def users_conf(keys: Mapping[str, str], stores: Iterable[StoreName]) -> str:
    """The `authorization` of nats.conf: public keys and permissions, no secret. Without a user nobody may connect."""
    names = sorted(set(stores))
    users = ",\n".join(_user(keys[user], permissions(user, names), user) for user in BUS_USERS)
    return (
        f"# Made by backup-manager, and again when the stores change.\nauthorization {{\n  users: [\n{users}\n  ]\n}}\n"
    )


def _user(key: str, allowed: Permissions, name: str) -> str:
    publish, subscribe = (json.dumps(list(subjects)) for subjects in (allowed.publish, allowed.subscribe))
    return (
        f"    # {name}\n"
        f"    {{ nkey: {key}, permissions: {{\n"
        f"      publish: {{ allow: {publish} }},\n"
        f"      subscribe: {{ allow: {subscribe} }}\n"
        f"    }} }}"
    )


def _working(job: Job, store: StoreName) -> list[str]:
    consumer = tick_consumer(job, store)
    return _consuming(TICKS, consumer)


def _scheduling(stores: Iterable[StoreName]) -> list[str]:
    ticks = [tick_subject(job, store, "*") for store in stores for job in WORKED_JOBS]
    # A tick that waits is read and taken back when a wish overtakes it.
    return [*ticks, *_consuming(TRIGGERS, SCHEDULER), _reading(TICKS), f"$JS.API.STREAM.MSG.DELETE.{TICKS}"]


def _consuming(stream: str, consumer: str) -> list[str]:
    return [f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", f"$JS.ACK.{stream}.{consumer}.>"]


def _reading(stream: str) -> str:
    return f"$JS.API.STREAM.MSG.GET.{stream}"


def _provisioning(stores: Iterable[StoreName]) -> list[str]:
    names = [stream.name for stream in streams()]
    allowed = ["$JS.API.INFO"]
    allowed += [f"$JS.API.STREAM.{verb}.{name}" for name in names for verb in ("INFO", "CREATE", "UPDATE")]
    for stream, consumer in consumers(stores, ANY_ACK_WAIT):
        name = consumer.durable_name
        allowed += [f"$JS.API.CONSUMER.INFO.{stream}.{name}", f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.{name}"]
        allowed += [f"$JS.API.CONSUMER.CREATE.{stream}.{name}", f"$JS.API.CONSUMER.CREATE.{stream}.{name}.>"]
    return allowed
