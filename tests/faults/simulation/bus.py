"""The bus in memory, with what the product relies on in nats-server: one message for each subject of a tick, refused
while it is pending or being worked on; redelivery after the ack wait; late answers of the presumed dead accepted; ids
remembered for an hour and forgotten with a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any, Final

from shared.adapters.bus_layout import HOUR_SECONDS, TICKS, TRIGGERS
from shared.adapters.jetstream import Accepted, BusUnavailable
from shared.domain.events import Job
from shared.domain.messages import (
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

DAY_SECONDS: Final = 24 * HOUR_SECONDS
TRIGGER_ACK_WAIT: Final = 30.0
FETCH_SECONDS: Final = 6 * 3600.0
"""A fetch that finds nothing lasts longer than the real one: nothing happens in between, and it costs nothing."""

AWAY_SECONDS: Final = 120.0
"""How long a client waits that did not reach the bus; in the product it is half a second."""

Hear = Callable[[str, bytes], Awaitable[None]]


@dataclass(slots=True, eq=False)
class Message:
    """A stored message. It can be had from `free_at` on (monotonic seconds); `gone` when it is settled."""

    sequence: int
    stream: str
    subject: str
    body: bytes
    stored_at: datetime
    stored: float
    free_at: float = 0.0
    gone: bool = False


@dataclass(slots=True)
class BusServer:
    """What all clients share."""

    now: Callable[[], datetime]
    monotonic: Callable[[], float]
    random: Random
    ack_wait_seconds: float
    messages: dict[int, Message] = field(default_factory=dict)
    ids: dict[str, float] = field(default_factory=dict)
    cancels: dict[str, Message] = field(default_factory=dict)
    listeners: list[tuple[FakeBus, Hear]] = field(default_factory=list)
    sequence: int = 0
    away: bool = False
    history: deque[Message] = field(default_factory=lambda: deque(maxlen=20))
    changes: dict[str, asyncio.Event] = field(default_factory=dict)

    def store(self, stream: str, subject: str, body: bytes, identity: str = "") -> Accepted:
        """Take a message in."""
        if identity and self.ids.get(identity, -1.0) > self.monotonic():
            return Accepted.DUPLICATE
        if stream == TICKS and any(message.subject == subject for message in self.messages.values()):
            return Accepted.ALREADY_RUNNING
        self.sequence += 1
        made = Message(self.sequence, stream, subject, body, self.now(), self.monotonic())
        self.messages[self.sequence] = made
        self.history.append(made)
        if identity:
            self.ids[identity] = self.monotonic() + HOUR_SECONDS
        self.wake(subject)
        return Accepted.STORED

    def take(self, stream: str, prefix: str, ack_wait: float) -> Message | None:
        """Hand out one of the messages that can be had; in any order."""
        now = self.monotonic()
        free = [
            message
            for message in self.messages.values()
            if message.free_at <= now and message.stream == stream and message.subject.startswith(prefix)
        ]
        if not free:
            return None
        message = self.random.choice(free)
        message.free_at = now + ack_wait
        return message

    def settle(self, message: Message) -> None:
        """Take a message away, whoever says so and however late."""
        message.gone = True
        self.messages.pop(message.sequence, None)

    def withdraw(self, subject: str) -> None:
        """Take the message of a subject away."""
        for message in [message for message in self.messages.values() if message.subject == subject]:
            self.settle(message)

    def restart(self, *, lose_store: bool) -> None:
        """Forget the ids, and with the store everything."""
        self.ids.clear()
        if lose_store:
            self.messages.clear()
            self.cancels.clear()
        self.wake()

    def wake(self, subject: str | None = None) -> None:
        """Let whoever waits for this subject look again; without one, everybody."""
        for name, changed in list(self.changes.items()):
            if subject is None or subject.startswith(name):
                changed.set()
                del self.changes[name]


class FakeDelivery:
    """A message that was handed to a process, until it is settled."""

    def __init__(self, bus: FakeBus, message: Message, ack_wait: float) -> None:
        self._bus = bus
        self._message = message
        self._ack_wait = ack_wait
        self.subject = message.subject
        self.body = message.body
        self.stored_at = message.stored_at
        self.stream_sequence = message.sequence

    async def done(self) -> None:
        """It is worked off."""
        await self._bus.ask()
        self._bus.server.settle(self._message)
        await self._bus.answered()

    async def heartbeat(self, timeout_seconds: float = 5.0) -> None:
        """Still working on it."""
        await self._bus.ask()
        self._message.free_at = self._bus.server.monotonic() + self._ack_wait
        await self._bus.answered()

    async def retry_in(self, seconds: float) -> None:
        """Deliver it again later."""
        await self._bus.ask()
        self._message.free_at = self._bus.server.monotonic() + seconds
        self._bus.server.wake(self.subject)
        await self._bus.answered()

    async def reject(self, reason: str) -> None:
        """Never deliver it again."""
        await self.done()


class FakeInbox:
    """The messages of one consumer."""

    def __init__(self, bus: FakeBus, stream: str, name: str, ack_wait: float) -> None:
        self._bus = bus
        self._stream = stream
        self._name = name
        self._ack_wait = ack_wait

    async def next(self) -> FakeDelivery | None:
        """The next message, or None when there is none for a while."""
        server = self._bus.server
        try:
            await self._bus.ask()
        except BusUnavailable:
            await asyncio.sleep(AWAY_SECONDS)
            return None
        changed = server.changes.setdefault(self._name, asyncio.Event())
        message = server.take(self._stream, self._name, self._ack_wait)
        if message is not None:
            return FakeDelivery(self._bus, message, self._ack_wait)
        try:
            async with asyncio.timeout(self._until_free()):
                await changed.wait()
        except TimeoutError:
            pass
        return None

    def _until_free(self) -> float:
        server = self._bus.server
        mine = [
            message.free_at
            for message in server.messages.values()
            if message.stream == self._stream and message.subject.startswith(self._name)
        ]
        return min(FETCH_SECONDS, max(0.01, min(mine, default=float("inf")) - server.monotonic()))

    async def leave(self) -> None:
        """Stop asking."""


class FakeBus:
    """A connection to the bus. `passage` is awaited on every way there and back: it takes time, waits, or raises."""

    def __init__(
        self, server: BusServer, passage: Callable[[], Awaitable[None]], enter: Callable[[Any], object] | None = None
    ) -> None:
        self.server = server
        self._passage = passage
        self._enter = enter or asyncio.create_task
        self.closed = asyncio.Event()
        self.why = None

    async def ask(self) -> None:
        """The way there."""
        await self._passage()
        if self.server.away:
            raise BusUnavailable("The bus does not answer: simulated.")

    async def answered(self) -> None:
        """The way back: lost, it has happened all the same."""
        await self.ask()

    async def close(self) -> None:
        """Close."""
        self.server.listeners = [listener for listener in self.server.listeners if listener[0] is not self]

    async def provision(self, stores: Iterable[str], ack_wait_seconds: int) -> None:
        """Nothing is to be made."""

    async def publish_tick(self, tick: Tick) -> Accepted:
        """Put a tick on the bus."""
        await self.ask()
        subject = tick_subject(tick.job, tick.store, tick.host)
        accepted = self.server.store(TICKS, subject, encode_tick(tick), tick_message_id(tick))
        await self.answered()
        return accepted

    async def withdraw_tick(self, tick: Tick) -> None:
        """Take the pending tick of the same job and host off the bus."""
        await self.ask()
        self.server.withdraw(tick_subject(tick.job, tick.store, tick.host))

    async def publish_trigger(self, trigger: Trigger) -> int:
        """Ask for runs."""
        await self.ask()
        self.server.store(TRIGGERS, TRIGGER_SUBJECT, encode_trigger(trigger))
        return self.server.sequence

    async def publish_cancel(self, cancel: Cancel) -> None:
        """Call a host's work off."""
        await self.ask()
        server, subject, body = self.server, cancel_subject(cancel.host), encode_cancel(cancel)
        server.sequence += 1
        server.cancels[subject] = Message(server.sequence, "CONTROL", subject, body, server.now(), server.monotonic())
        for bus, hear in list(server.listeners):
            bus.enter(bus.passed_on(hear, subject, body))

    def enter(self, work: Any) -> None:
        """Do something in the process that this connection belongs to."""
        self._enter(work)

    async def passed_on(self, hear: Hear, subject: str, body: bytes) -> None:
        """Have a message heard; who is away misses it."""
        with contextlib.suppress(BusUnavailable):
            await self.answered()
            await hear(subject, body)

    async def last_cancel(self, host: HostName) -> tuple[bytes, datetime] | None:
        """The host's last cancel message and when it was stored."""
        await self.ask()
        found = self.server.cancels.get(cancel_subject(host))
        if found is None or self.server.monotonic() - found.stored > HOUR_SECONDS:
            return None
        return found.body, found.stored_at

    @asynccontextmanager
    async def cancels(self, hear: Hear) -> AsyncIterator[None]:
        """Have every cancel message heard while the block lasts."""
        self.server.listeners.append((self, hear))
        try:
            yield
        finally:
            self.server.listeners = [listener for listener in self.server.listeners if listener != (self, hear)]

    def ticks(self, job: Job, store: str) -> Any:
        """The ticks of a job on a store."""
        prefix = tick_subject(job, store, "")
        return FakeInbox(self, TICKS, prefix, self.server.ack_wait_seconds)

    def triggers(self) -> Any:
        """The wishes of people."""
        return FakeInbox(self, TRIGGERS, TRIGGER_SUBJECT, TRIGGER_ACK_WAIT)
