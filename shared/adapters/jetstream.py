"""The bus: NATS JetStream.

The client reconnects for ever; when it is closed for good, `closed` is set and the process ends. While it is
disconnected a publish or an acknowledgement seems to succeed, so everything that matters is confirmed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import datetime
from enum import StrEnum
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.errors import APIError, NotFoundError

from shared.adapters.bus_client import BusForbids, BusUnavailable, BusUser, Line, open_client
from shared.adapters.bus_layout import (
    CONTROL,
    SCHEDULER,
    TICKS,
    TRIGGERS,
    consumers,
    streams,
    tick_consumer,
)
from shared.domain.events import Job
from shared.domain.messages import (
    CANCEL_SUBJECT,
    TRIGGER_SUBJECT,
    Cancel,
    Tick,
    Trigger,
    cancel_subject,
    encode_cancel,
    encode_tick,
    encode_trigger,
    tick_message_id,
    tick_subject,
)
from shared.domain.names import HostName

CALL_TIMEOUT_SECONDS: Final = 5.0
FETCH_TIMEOUT_SECONDS: Final = 5.0
"""A pending fetch outlives a server restart until this time is over, so it is short."""

BACK_OFF_SECONDS: Final = 0.5
PER_SUBJECT_LIMIT_ERROR: Final = 10077

log = logging.getLogger(__name__)

__all__ = ["Accepted", "Bus", "BusForbids", "BusUnavailable", "BusUser", "Delivery", "Inbox"]


class Accepted(StrEnum):
    """What the bus said to a tick."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    ALREADY_RUNNING = "already running"


class Delivery:
    """A message that was handed to this process, until it is settled."""

    def __init__(self, client: Client, message: Msg) -> None:
        self._client = client
        self._message = message
        self.subject = message.subject
        self.body = message.data
        self.stored_at = message.metadata.timestamp
        self.stream_sequence = message.metadata.sequence.stream

    async def done(self) -> None:
        """It is worked off: tell the server and wait until it knows. Raises BusUnavailable."""
        await self._confirmed(b"+ACK")

    async def heartbeat(self, timeout_seconds: float = CALL_TIMEOUT_SECONDS) -> None:
        """Still working on it. Raises BusUnavailable when nobody confirms in time."""
        await self._confirmed(b"+WPI", timeout_seconds)

    async def retry_in(self, seconds: float) -> None:
        """Deliver it again later; lost when the server restarts meanwhile, then it comes after the ack wait."""
        await self._confirmed(b'-NAK {"delay": %d}' % int(seconds * 1_000_000_000))

    async def reject(self, reason: str) -> None:
        """Never deliver it again."""
        await self._confirmed(b"+TERM " + reason.encode("ascii", "replace")[:200])

    async def _confirmed(self, word: bytes, timeout_seconds: float = CALL_TIMEOUT_SECONDS) -> None:
        try:
            await self._client.request(self._message.reply, word, timeout=timeout_seconds)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise BusUnavailable(f"The bus does not confirm {word[:4].decode()} for {self.subject}.") from error


class Inbox:
    """The messages of one durable consumer, fetched one at a time."""

    def __init__(self, client: Client, stream: str, consumer: str) -> None:
        self._client = client
        self._stream = stream
        self._consumer = consumer
        self._subscription: JetStreamContext.PullSubscription | None = None

    async def next(self) -> Delivery | None:
        """The next message, or None when there is none for a while."""
        try:
            if self._subscription is None:
                self._subscription = await self._client.jetstream().pull_subscribe_bind(
                    durable=self._consumer, stream=self._stream
                )
            messages = await self._subscription.fetch(1, timeout=FETCH_TIMEOUT_SECONDS)
            return Delivery(self._client, messages[0])
        except TimeoutError:  # nats.errors.TimeoutError is one too
            return None
        except (nats.errors.Error, OSError) as error:
            # Without a leader a fetch fails at once: without a pause this would be a busy loop.
            log.warning("The bus gives no messages of %s now: %s", self._consumer, error)
            await self.leave()
            await asyncio.sleep(BACK_OFF_SECONDS)
            return None
        except asyncio.CancelledError:
            # A cancelled fetch leaves its request behind, and the next message would wait in our queue.
            await self.leave()
            raise

    async def leave(self) -> None:
        """Stop asking."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()


class Bus:
    """A connection to the bus."""

    def __init__(self, client: Client, line: Line) -> None:
        self._client = client
        self._stream = client.jetstream(timeout=CALL_TIMEOUT_SECONDS)
        self._line = line
        self.closed = line.closed

    @classmethod
    async def connect(cls, url: str, user: BusUser | str, *, timeout_seconds: float = 30.0) -> Bus:
        """Connect, trying again while the server is not there yet.

        Raises BusUnavailable after the timeout, BusForbids when the server does not let this user in, and KeyRefused.
        """
        line = Line(BusUser(user) if isinstance(user, str) else user)
        return cls(await open_client(url, line, timeout_seconds), line)

    @property
    def why(self) -> BusForbids | None:
        """What the server forbade this user, once it did."""
        return self._line.why

    async def close(self) -> None:
        """Send what is waiting and close."""
        self._line.leaving.set()
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            await asyncio.wait_for(self._client.drain(), CALL_TIMEOUT_SECONDS)

    async def provision(self, stores: Iterable[str], ack_wait_seconds: int, replicas: int = 1) -> None:
        """Make streams and consumers what they are declared to be. Raises BusUnavailable."""
        try:
            for stream in streams(replicas):
                try:
                    await self._stream.update_stream(stream)
                except NotFoundError:
                    await self._stream.add_stream(stream)
            for stream_name, consumer in consumers(stores, ack_wait_seconds):
                await self._stream.add_consumer(stream_name, consumer)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise self._line.failed(f"The bus could not be set up: {error}.") from error

    async def publish_tick(self, tick: Tick) -> Accepted:
        """Put a tick on the bus. Raises BusUnavailable."""
        subject = tick_subject(tick.job, tick.store, tick.host)
        headers = {"Nats-Msg-Id": tick_message_id(tick)}
        try:
            stored = await self._stream.publish(subject, encode_tick(tick), headers=headers)
        except APIError as error:
            if error.err_code == PER_SUBJECT_LIMIT_ERROR:
                return Accepted.ALREADY_RUNNING
            raise self._line.failed(f"The bus refuses {subject}: {error}.") from error
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise self._line.failed(f"The bus does not take {subject}: {error!r}.") from error
        return Accepted.DUPLICATE if stored.duplicate else Accepted.STORED

    async def withdraw_tick(self, tick: Tick) -> None:
        """Take the pending tick of the same job and host off the bus, if there is one. Raises BusUnavailable.

        A worker that has it at this moment goes on: the lock on the drive keeps the next one out.
        """
        try:
            pending = await self._stream.get_last_msg(TICKS, tick_subject(tick.job, tick.store, tick.host))
            if pending.seq is not None:
                await self._stream.delete_msg(TICKS, pending.seq)
        except NotFoundError:
            return  # settled in the meantime
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise self._line.failed(f"The bus does not give the tick of {tick.host} back: {error!r}.") from error

    async def publish_trigger(self, trigger: Trigger) -> int:
        """Ask for runs; returns the wish's number on the bus. Raises BusUnavailable."""
        try:
            stored = await self._stream.publish(TRIGGER_SUBJECT, encode_trigger(trigger))
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise self._line.failed(f"The bus does not take the trigger: {error!r}.") from error
        return stored.seq

    async def publish_cancel(self, cancel: Cancel) -> None:
        """Call a host's work off. Raises BusUnavailable."""
        try:
            await self._stream.publish(cancel_subject(cancel.host), encode_cancel(cancel))
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise self._line.failed(f"The bus does not take the cancel: {error!r}.") from error

    async def last_cancel(self, host: HostName) -> tuple[bytes, datetime] | None:
        """The body of the host's last cancel message and when it was stored; None when none is kept."""
        try:
            found = await self._stream.get_last_msg(CONTROL, cancel_subject(host))
        except NotFoundError:
            return None
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise self._line.failed(f"The bus does not say whether {host} was called off: {error!r}.") from error
        return (found.data or b"", found.time) if found.time is not None else None

    @contextlib.asynccontextmanager
    async def cancels(self, hear: Callable[[str, bytes], Awaitable[None]]) -> AsyncIterator[None]:
        """Have every cancel message heard (its subject and body) while the block lasts."""

        async def deliver(message: Msg) -> None:
            await hear(message.subject, message.data)

        subscription = await self._client.subscribe(f"{CANCEL_SUBJECT}.*", cb=deliver)
        try:
            yield
        finally:
            with contextlib.suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()

    def ticks(self, job: Job, store: str) -> Inbox:
        """The ticks of a job on a store."""
        return Inbox(self._client, TICKS, tick_consumer(job, store))

    def triggers(self) -> Inbox:
        """The wishes of people."""
        return Inbox(self._client, TRIGGERS, SCHEDULER)
