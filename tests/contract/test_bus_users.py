"""What each user of the bus may not do, on a real server, and that everything it has to do works."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client

from shared.adapters import bus_client
from shared.adapters.bus_client import BusForbids, BusUser, KeyedClient
from shared.adapters.bus_permissions import BUS_USERS, JOB_OF, PROVISION
from shared.adapters.jetstream import Accepted, Bus, BusUnavailable
from shared.adapters.nkeys import new_seed
from shared.domain.errors import BackupManagerError, KeyRefused
from shared.domain.events import Job
from shared.domain.messages import Cancel, Trigger
from shared.domain.names import HostName
from shared.domain.writers import WORKERS, Service
from shared.runtime.watch import fail_when_closed
from tests.support.builders import a_tick
from tests.support.servers import BOUND_SECONDS
from tests.support.users import GuardedBus, guarded_bus

pytestmark = pytest.mark.timeout(BOUND_SECONDS)

TICK = "tick.snapshot.main.nas"
# What nobody but provisioning may do, and what provisioning may not do either.
OF_NOBODY = (
    "$JS.API.STREAM.DELETE.TICKS",
    "$JS.API.STREAM.PURGE.TICKS",
    "$JS.API.STREAM.LIST",
    "$JS.API.STREAM.CREATE.MINE",
    "$JS.API.STREAM.SNAPSHOT.TICKS",
    "$JS.API.CONSUMER.DELETE.TICKS.snapshot-main",
    "$JS.API.CONSUMER.CREATE.TICKS.mine",
    "$JS.API.STREAM.MSG.GET.DEAD",
    "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.TICKS.snapshot-main",
    "$SYS.REQ.SERVER.PING",
    "tick.snapshot.other.nas",
    "_INBOX.somebody",
    "anything",
)
OF_PROVISION = (
    "$JS.API.STREAM.UPDATE.TICKS",
    "$JS.API.CONSUMER.CREATE.TICKS.snapshot-main",
    "$JS.API.CONSUMER.DURABLE.CREATE.TICKS.snapshot-main",
    "$JS.API.INFO",
)
OF_THE_SCHEDULER = (
    TICK,
    "$JS.API.STREAM.MSG.DELETE.TICKS",
    "$JS.API.CONSUMER.MSG.NEXT.TRIGGERS.scheduler",
    "$JS.ACK.TRIGGERS.scheduler.1.1.1.1.0",
)
OF_PEOPLE = ("backup.trigger", "backup.trigger.nas", "backup.cancel.nas")
OF_WORKERS = {
    service: (f"$JS.API.CONSUMER.MSG.NEXT.TICKS.{job}-main", f"$JS.ACK.TICKS.{job}-main.1.1.1.1.0")
    for service, job in JOB_OF.items()
}
HEARD_BY_NOBODY = (">", "tick.>", "backup.trigger", "$JS.>", "$JS.API.>", "$SYS.>", "_INBOX.>")


def forbidden_to(user: str) -> Iterator[str]:
    """The subjects on which a user may not publish."""
    yield from OF_NOBODY
    if user != PROVISION:
        yield from OF_PROVISION
    if user != Service.SCHEDULER:
        yield from OF_THE_SCHEDULER
    if user not in {Service.API, Service.OPERATOR}:
        yield from OF_PEOPLE
    for service, subjects in OF_WORKERS.items():
        if user != service:
            yield from subjects


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[GuardedBus]:
    async with guarded_bus(tmp_path) as running:
        yield running


@asynccontextmanager
async def listened(guarded: GuardedBus, user: str) -> AsyncIterator[tuple[Client, list[str]]]:
    """A client and what the server forbade it so far."""
    said: list[str] = []

    async def heard(error: Exception) -> None:
        said.extend(re.findall(r'permissions violation for \w+ to "([^"]*)"', str(error)))

    client = KeyedClient()
    client.seed = bus_client.read_seed(guarded.secrets.key(user))
    await client.connect(guarded.url, nkeys_seed_str=client.seed, inbox_prefix=f"_INBOX_{user}", error_cb=heard)
    try:
        yield client, said
    finally:
        await client.close()


@pytest.mark.parametrize("user", BUS_USERS)
async def test_what_a_user_may_not_do_the_server_refuses(guarded: GuardedBus, user: str) -> None:
    subjects = list(forbidden_to(user))
    others = [f"_INBOX_{other}.>" for other in BUS_USERS if other != user]
    heard = [*HEARD_BY_NOBODY, *others, *([] if user in WORKERS else ["backup.cancel.*"])]
    async with listened(guarded, user) as (client, said):
        for subject in subjects:
            await client.publish(subject, b"{}")
        for subject in heard:
            await client.subscribe(subject)
        await client.flush()  # the server answers in order: what it forbids was said before
        while len(said) < len(subjects) + len(heard):  # noqa: ASYNC110  # nats-py tells it in a task of its own
            await asyncio.sleep(0.01)
    assert sorted(said) == sorted(subject.lower() for subject in [*subjects, *heard])


async def test_everybody_may_do_what_the_work_needs(guarded: GuardedBus) -> None:
    host = HostName("nas")
    async with guarded.bus(Service.SCHEDULER) as scheduler, guarded.bus(Service.OPERATOR) as operator:
        await operator.publish_trigger(Trigger())
        wish = await scheduler.triggers().next()
        assert wish is not None
        await wish.done()
        for service, job in JOB_OF.items():
            tick = a_tick(job=job)
            assert await scheduler.publish_tick(tick) is Accepted.STORED
            await scheduler.withdraw_tick(tick)
            again = a_tick(job=job, slot=tick.slot.replace(second=7))
            assert await scheduler.publish_tick(again) is Accepted.STORED
            heard: asyncio.Queue[str] = asyncio.Queue()

            async def hear(subject: str, _: bytes, heard: asyncio.Queue[str] = heard) -> None:
                heard.put_nowait(subject)

            async with guarded.bus(service) as worker, worker.cancels(hear):
                delivery = await worker.ticks(job, "main").next()
                assert delivery is not None
                await delivery.heartbeat()
                async with guarded.bus(Service.API) as api:
                    await api.publish_cancel(Cancel(host, "somebody"))
                assert await heard.get() == "backup.cancel.nas"
                assert await worker.last_cancel(host) is not None
                await delivery.done()
                assert worker.why is None


async def test_a_foreign_program_with_the_operators_key_asks_for_a_backup(guarded: GuardedBus) -> None:
    async with guarded.client(Service.OPERATOR) as client, guarded.bus(Service.SCHEDULER) as scheduler:
        await client.publish("backup.trigger", b"")
        await client.publish("backup.trigger.nas", b"")
        await client.flush()
        assert {(await scheduler.triggers().next()).subject for _ in range(2)} == {  # type: ignore[union-attr]  # two are there
            "backup.trigger",
            "backup.trigger.nas",
        }


async def test_nobody_gets_in_without_a_key(guarded: GuardedBus) -> None:
    async def ignore(_: Exception) -> None: ...

    for url in (guarded.url, guarded.url.replace("//", "//token@"), guarded.url.replace("//", "//user:pass@")):
        client = Client()  # nats.connect would not give us the one to close when it fails
        with pytest.raises(nats.errors.Error, match="Authorization Violation"):
            await client.connect(url, allow_reconnect=False, connect_timeout=5, error_cb=ignore)
        await client.close()


async def refused(url: str, user: BusUser) -> BackupManagerError:
    with pytest.raises(BackupManagerError) as caught:
        await Bus.connect(url, user, timeout_seconds=20)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    return caught.value


async def test_a_wrong_key_is_told_at_once_with_what_to_do(guarded: GuardedBus, tmp_path: Path) -> None:
    key = tmp_path / "key"
    missing = await refused(guarded.url, BusUser("api", key))
    assert isinstance(missing, KeyRefused)
    assert f"{key}, cannot be read: No such file" in missing.message
    key.write_text("hunter2\n")
    senseless = await refused(guarded.url, BusUser("api", key))
    assert isinstance(senseless, KeyRefused)
    assert "holds no key" in senseless.message
    assert "hunter2" not in str(senseless)
    key.write_text(new_seed())
    unknown = await refused(guarded.url, BusUser("api", key))
    assert isinstance(unknown, BusForbids)
    assert "does not know the key of api" in unknown.message
    none = await refused(guarded.url, BusUser("api"))
    assert isinstance(none, BusForbids)
    assert "without a key" in none.message


async def test_what_is_forbidden_ends_a_service_with_words(
    guarded: GuardedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.adapters.jetstream.CALL_TIMEOUT_SECONDS", 0.5)
    bus = await Bus.connect(guarded.url, BusUser("archiver", guarded.secrets.key("archiver")))
    try:
        with pytest.raises(BusUnavailable) as caught:
            await bus.publish_tick(a_tick())
        assert isinstance(caught.value, BusForbids)
        assert f"forbids archiver to publish on {TICK}" in str(caught.value)
        with pytest.raises(BusForbids):
            await fail_when_closed(bus, asyncio.Event())
    finally:
        await bus.close()


async def test_the_key_of_another_service_is_found_out(guarded: GuardedBus) -> None:
    bus = await Bus.connect(guarded.url, BusUser("archiver", guarded.secrets.key("retention")))
    try:
        assert await bus.ticks(Job.ARCHIVE, "main").next() is None
        await bus.closed.wait()
        assert bus.why is not None
        assert "forbids archiver to" in bus.why.message
        assert "this service's own key" in bus.why.hint
    finally:
        await bus.close()
