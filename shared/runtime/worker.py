"""The loop of every worker: take one tick when idle, prove all the time that it is still ours, settle it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from shared.adapters.clock import SystemClock
from shared.adapters.jetstream import CALL_TIMEOUT_SECONDS, BusUnavailable, Delivery, Inbox
from shared.adapters.journal import about
from shared.domain.errors import BackupManagerError, HostBusy, MessageRefused
from shared.domain.messages import Tick, decode_tick
from shared.runtime.service import first_of
from shared.runtime.watch import asked_to_end

SETTLE_ATTEMPTS: Final = 5
BUSY_RETRY_SECONDS: Final = 30.0
ERROR_RETRY_SECONDS: Final = 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Done:
    """The tick is worked off."""


@dataclass(frozen=True, slots=True)
class RetryIn:
    """The tick is to come again after so many seconds."""

    seconds: float


Disposition = Done | RetryIn
Handle = Callable[[Tick], Awaitable[Disposition]]
"""Works a tick off; MessageRefused means that nobody ever can."""

Reject = Callable[[str, str, bytes], Awaitable[None]]
"""Records a message that cannot be understood: its subject, the reason, its body."""


class Worker:
    """Works off the ticks of one inbox, one at a time."""

    def __init__(
        self,
        inbox: Inbox,
        handle: Handle,
        reject: Reject,
        *,
        ack_wait_seconds: float,
        heartbeat_seconds: float,
        drain_seconds: float,
        clock: SystemClock,
    ) -> None:
        self._inbox = inbox
        self._handle = handle
        self._reject = reject
        self._ack_wait_seconds = ack_wait_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._drain_seconds = drain_seconds
        self._clock = clock

    async def run(self, stop: asyncio.Event, leave: asyncio.Event | None = None) -> None:
        """Work until told to stop; a job under way then gets `drain_seconds` to end by itself.

        Told to leave, nothing new is begun, and a job under way has all the time that it needs.
        """
        stopping = asyncio.create_task(stop.wait())
        leaving = asyncio.create_task((leave or stop).wait())
        try:
            while not stop.is_set() and not leaving.done():
                fetching = asyncio.create_task(self._inbox.next())
                await asyncio.wait({fetching, stopping, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if not fetching.done():
                    fetching.cancel()
                    await self._give_back((await asyncio.gather(fetching, return_exceptions=True))[0])
                    break
                if (delivery := fetching.result()) is not None:
                    await self._work(delivery, stopping)
        finally:
            stopping.cancel()
            leaving.cancel()
            await self._inbox.leave()

    async def _give_back(self, fetched: Delivery | BaseException | None) -> None:
        if isinstance(fetched, Delivery):  # it came in the very moment in which we stopped asking
            await self._settle(fetched, RetryIn(0))

    async def _work(self, delivery: Delivery, stopping: asyncio.Task[bool]) -> None:
        try:
            tick = decode_tick(delivery.subject, delivery.body)
        except MessageRefused as error:
            await self._refuse(delivery, error.message)
            return
        with about(host=tick.host, job=tick.job):
            await self._work_tick(delivery, tick, stopping)

    async def _work_tick(self, delivery: Delivery, tick: Tick, stopping: asyncio.Task[bool]) -> None:
        work = asyncio.create_task(self._decide(tick))
        heart = asyncio.create_task(self._beat(delivery, work))
        try:
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await asyncio.wait({work}, timeout=self._drain_seconds)
            if not work.done():
                log.info("Stopping: the run is given up and will be taken by another worker.")
                work.cancel()
            result = (await asyncio.gather(work, return_exceptions=True))[0]
        finally:
            heart.cancel()
            work.cancel()  # ended already, unless we ourselves are being cancelled
            lost = (await asyncio.gather(heart, work, return_exceptions=True))[0] is True
        if lost:
            log.error("Nobody confirms that this run is ours any more; it was ended and is left to others.")
        elif isinstance(result, MessageRefused):
            await self._refuse(delivery, result.message)
        elif isinstance(result, BaseException):
            await self._settle(delivery, RetryIn(1.0 if stopping.done() else ERROR_RETRY_SECONDS))
        else:
            await self._settle(delivery, result)

    async def _decide(self, tick: Tick) -> Disposition:
        try:
            return await self._handled(tick)
        except HostBusy as error:
            seconds = min(BUSY_RETRY_SECONDS, self._ack_wait_seconds)
            log.info("%s Trying again in %g s.", error.message, seconds)
            return RetryIn(seconds)
        except MessageRefused:
            raise
        except BackupManagerError as error:
            log.error("%s Trying again in %g s.", error, ERROR_RETRY_SECONDS)
            raise
        except Exception:
            log.exception("The run could not be handled; trying again in %g s.", ERROR_RETRY_SECONDS)
            raise

    async def _handled(self, tick: Tick) -> Disposition:
        try:
            return await self._handle(tick)
        except ExceptionGroup as group:  # of what a handler does side by side, the first error decides
            raise first_of(group) from group

    async def _beat(self, delivery: Delivery, work: asyncio.Task[Disposition]) -> bool:
        """Ends with True, having cancelled the work, when nobody confirmed that it is ours for half of the ack wait.

        Half, because the rival may start at the whole: by then our processes must be gone. So an answer is never
        waited for much longer than until then.
        """
        half = self._ack_wait_seconds / 2
        confirmed = self._clock.monotonic()
        while not asked_to_end():
            await self._clock.sleep(min(self._heartbeat_seconds, confirmed + half - self._clock.monotonic()))
            asked = self._clock.monotonic()
            try:
                await delivery.heartbeat(min(max(confirmed + half - asked, half / 2), CALL_TIMEOUT_SECONDS))
                confirmed = asked
            except BusUnavailable:
                if self._clock.monotonic() - confirmed >= half:
                    work.cancel()
                    return True
        return False

    async def _settle(self, delivery: Delivery, disposition: Disposition) -> None:
        for attempt in range(1, SETTLE_ATTEMPTS + 1):
            with contextlib.suppress(BusUnavailable):
                if isinstance(disposition, RetryIn):
                    await delivery.retry_in(disposition.seconds)
                else:
                    await delivery.done()
                return
            await self._clock.sleep(min(0.5 * attempt, 2.0))
        log.warning("The bus does not take the answer; the tick will come again and be found done.")

    async def _refuse(self, delivery: Delivery, reason: str) -> None:
        log.warning("A message is refused: %s", reason)
        await self._reject(delivery.subject, reason, delivery.body)
        with contextlib.suppress(BusUnavailable):
            await delivery.reject(reason)
