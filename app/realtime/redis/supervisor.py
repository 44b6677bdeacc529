"""Keeps a node attached to the servers: notices that they are lost, and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Set
from typing import Protocol

from app.realtime.broker import BrokerError, BrokerListener, BrokerUnavailable
from app.realtime.redis.attachment import Attachment
from app.realtime.redis.holdings import Holdings
from app.realtime.redis.scripts import RedisOptions
from app.realtime.redis.statistics import Statistics

logger = logging.getLogger(__name__)


class Attached(Protocol):
    """Who is attached: the broker."""

    def attachment(self, failed: Callable[[str], None]) -> Attachment:
        """A new one that is not open yet."""

    def channels(self) -> Set[bytes]:
        """What to subscribe to."""

    async def check(self, attachment: Attachment) -> None:
        """See that all servers answer and deliver.

        Raises:
            TimeoutError, BrokerError: one does not.
        """

    def interrupt(self) -> None:
        """The servers are lost; called before anybody can act on what is heard next. Does not wait."""


class Supervisor:
    """Has an attachment, or tries for one.

    Args:
        owner: who is attached.
        holdings: what to say again as soon as it is.
        options: times.
        statistics: where losses are counted.

    Attributes:
        attachment: None while a server is lost.
    """

    def __init__(self, owner: Attached, holdings: Holdings, options: RedisOptions, statistics: Statistics) -> None:
        """Not attached yet."""
        self.attachment: Attachment | None = None
        self._owner = owner
        self._holdings = holdings
        self._options = options
        self._statistics = statistics
        self._listener: BrokerListener | None = None
        self._reason = "not connected yet"
        self._lost_at = 0.0
        self._trouble = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def attached(self) -> Attachment:
        """The attachment.

        Raises:
            BrokerUnavailable: there is none.
        """
        if self.attachment is None:
            raise BrokerUnavailable(self._reason)
        return self.attachment

    async def start(self, listener: BrokerListener | None) -> None:
        """Try once, and go on in the background whatever came of it."""
        self._listener = listener
        if not await self._try_to_attach():
            self._statistics.lost()
            self._trouble.set()
        loop = asyncio.get_running_loop()
        refreshing = self._holdings.refresh(self.attached)
        self._tasks = [loop.create_task(self._supervise()), loop.create_task(refreshing)]

    async def stop(self, reason: str) -> None:
        """Let everything that was sent arrive, for a bounded time, and disconnect."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        attachment, self.attachment, self._reason = self.attachment, None, reason
        if attachment is not None:
            await attachment.settle()
            attachment.close(reason)
            await attachment.disconnect()

    def lose(self, reason: str) -> None:
        """Give the attachment up; harmless when there is none. Does not wait."""
        attachment, self.attachment = self.attachment, None
        if attachment is None:
            return
        self._reason = reason
        self._lost_at = asyncio.get_running_loop().time()
        self._statistics.lost()
        self._owner.interrupt()
        attachment.close(reason)
        self._trouble.set()

    async def _attach(self) -> None:
        attachment = self._owner.attachment(self.lose)
        try:
            subscribed = set(self._owner.channels())
            await attachment.open(channel.decode() for channel in subscribed)
            await self._owner.check(attachment)
            wanted = self._owner.channels()
            for channel in subscribed - wanted:
                attachment.link(channel.decode()).unsubscribe(channel.decode())
            # Who comes from here on subscribes itself; to wait until nobody comes any more could take for ever.
            self.attachment = attachment
            await attachment.subscribe(channel.decode() for channel in wanted - subscribed)
        except BaseException:
            self.lose(reason := "not all of it could be reached")
            attachment.close(reason)
            await attachment.disconnect()
            raise
        self._statistics.reached()

    async def _try_to_attach(self) -> bool:
        try:
            await self._attach()
        except BrokerError as error:
            self._reason = error.reason
        except Exception as error:  # noqa: BLE001 - whatever a server or a library does, it is tried again
            self._reason = f"{type(error).__name__}: no connection"
        return self.attachment is not None

    async def _supervise(self) -> None:
        restoring: asyncio.Task[None] | None = None
        try:
            while True:
                if self.attachment is None:
                    if restoring is not None:
                        # What it waits for has failed already, and tells it whether a publish may have arrived.
                        await asyncio.sleep(0)
                        restoring.cancel()
                    await self._reach()
                    restoring = asyncio.create_task(self._restore())
                await self._watch()
        finally:
            if restoring is not None:
                restoring.cancel()
                await asyncio.gather(restoring, return_exceptions=True)

    async def _watch(self) -> None:
        """Until the next check is due, or something is lost."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._options.check_interval):
                await self._trouble.wait()
        if self.attachment is not None:
            try:
                await self._owner.check(self.attachment)
            except TimeoutError:
                self.lose("no echo")
            except BrokerError as error:
                self.lose(error.reason)

    async def _reach(self) -> None:
        """Try until all servers are reached."""
        if self._listener is not None:
            try:
                await self._listener.broker_lost(self._reason)
            except Exception as error:  # noqa: BLE001 - it must not keep this node from coming back
                logger.error("the listener of the broker failed: %s", type(error).__name__)
        while self.attachment is None:
            self._trouble.clear()
            # By then a server has carried out, or will refuse, whatever was on its way when it was lost.
            await asyncio.sleep(self._lost_at + self._options.timeout - asyncio.get_running_loop().time())
            if not await self._try_to_attach():
                await asyncio.sleep(self._options.check_interval)

    async def _restore(self) -> None:
        while (attachment := self.attachment) is not None:
            try:
                await self._holdings.say(attachment)
                if self._listener is not None:
                    await self._listener.broker_restored()
                return
            except Exception as error:  # noqa: BLE001 - connections would wait for ever for what they missed
                if self.attachment is not attachment:
                    return  # lost again; there will be another time
                reason = error.reason if isinstance(error, BrokerError) else type(error).__name__
                logger.error("not all could be brought up to date, trying again: %s", reason)
                await asyncio.sleep(self._options.check_interval)
