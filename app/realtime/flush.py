"""What publishes do while the broker is not to be used, and how everybody is brought up to date afterwards."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

from app.realtime.backlog import Backlog, Waiting
from app.realtime.broker import (
    Broker,
    BrokerError,
    BrokerUnavailable,
    Position,
    Publication,
    Published,
    StreamLimitExceeded,
)
from app.realtime.clock import Clock
from app.realtime.metrics import Metrics
from app.realtime.protocol import Frame, frame
from app.realtime.pushes import publication_push, publication_text
from app.realtime.subscription import Delivery, Subscription


class Receiver(Protocol):
    """The manager of a user key in this process, as it is here."""

    def deliver(self, publication: Publication) -> int:
        """Hand a publication to the connections in its channel; their number."""

    def subscriptions(self) -> list[Subscription]:
        """The subscriptions of all its connections."""


R_co = TypeVar("R_co", bound=Receiver, covariant=True)


class Flusher(Generic[R_co]):
    """Lets publishes wait, delivers them live meanwhile, and publishes them when the broker is back.

    Args:
        broker: where they go in the end.
        backlog: where they wait.
        local: the managers in this process by user key, kept up to date by the owner.
        metrics: counts.
        clock: its steady time.
        patience: seconds for which what the broker refuses is tried again; then it is dropped.
        breathe: called with channel, data and info of each publish; whether it is time to give the event loop a turn.

    Attributes:
        dropped: publishes that were accepted and could not go out.
    """

    def __init__(
        self,
        *,
        broker: Broker,
        backlog: Backlog,
        local: Mapping[str, R_co],
        metrics: Metrics,
        clock: Clock,
        patience: float,
        breathe: Callable[[str, str, str], bool],
    ) -> None:
        """Nothing is flushed yet."""
        self._broker = broker
        self._backlog = backlog
        self._local = local
        self.dropped = 0
        self._metrics = metrics
        self._clock = clock
        self._patience = patience
        self._breathe = breathe
        self._flushing: set[str] = set()

    def wait(
        self, key: str, channel: str, data: str, info: str, idempotency_key: str | None, ticket: str = ""
    ) -> Published:
        """Keep a publish for later, and deliver it live to the connections on this node.

        Args:
            ticket: of an attempt whose fate is uncertain.

        Raises:
            BacklogFull: nothing was kept or delivered.
        """
        now = self._clock.monotonic()
        serial = self._backlog.append(key, channel, data, info, idempotency_key, ticket, now)
        if serial is None:
            return Published("", 0, 0, duplicate=True, queued=True)
        self._metrics.queued.inc()
        connections = 0 if key in self._flushing else self._deliver_live(key, channel, data, info)
        return Published("", 0, connections, queued=True)

    async def catch_up(self, key: str, *, flush: bool = True, settle: Callable[[], object] = bool) -> None:
        """Publish what waits for a user key, in order, and bring its connections to the top of their streams.

        Each connection gets what it has not seen, once and in the streams' order: what other nodes published while this
        one did not hear of it, and what waited, unless it got that live.

        Args:
            flush: publish what waits; else it waits on.
            settle: called when nothing waits any more, or waits on; publishes after that may go to the broker.

        Raises:
            BrokerUnavailable: the broker went away again; what is left waits on.
            BrokerError: the broker refuses what waits, and it waits on; all else is done.
        """
        if key in self._flushing:
            return
        # What waits now was delivered live; what comes while this runs is not, because it goes out in its turn.
        seen_until = self._backlog.serial
        local = self._local.get(key)
        subscriptions = [] if local is None else local.subscriptions()
        for subscription in subscriptions:
            subscription.hold()
        self._flushing.add(key)
        try:
            refused = await self._flush(key, subscriptions, seen_until) if flush else None
            settle()
            await self._read_missed(key, subscriptions)
        finally:
            self._flushing.discard(key)
            for subscription in subscriptions:
                subscription.release()
            self._deliver_waiting(key, seen_until)
        if refused is not None:
            raise refused

    async def _flush(self, key: str, subscriptions: list[Subscription], seen_until: int) -> BrokerError | None:
        """Publish what waits; the error of one that is refused, with which all behind it waits on."""
        while (waiting := self._backlog.first(key)) is not None:
            try:
                offset = await self._publish(key, waiting)
            except BrokerUnavailable:
                raise
            except BrokerError as error:
                return error
            self._backlog.done(key)
            if offset and waiting.serial <= seen_until:
                for subscription in subscriptions:
                    if subscription.channel == waiting.channel and subscription.joined_at < waiting.serial:
                        subscription.skip(offset)
        return None

    async def _publish(self, key: str, waiting: Waiting) -> int:
        """Publish one that waited; its offset, or 0 if it went nowhere."""
        if self._breathe(waiting.channel, waiting.data, waiting.info):
            await asyncio.sleep(0)
        try:
            published = await self._broker.publish(
                key,
                waiting.channel,
                waiting.data,
                info=waiting.info,
                idempotency_key=waiting.idempotency_key,
                ticket=waiting.ticket,
            )
        except StreamLimitExceeded:
            return self._drop("streams")
        except BrokerUnavailable as error:
            self._backlog.keep_ticket(key, error.ticket)
            raise
        except BrokerError:
            if self._clock.monotonic() - waiting.since < self._patience:
                raise
            return self._drop("broker")
        self._metrics.published += 1
        return 0 if published.duplicate else published.offset

    def _drop(self, reason: str) -> int:
        """It will not go out, and whatever is behind it would wait for ever."""
        self._metrics.refused.labels(reason).inc()
        self.dropped += 1
        return 0

    async def _read_missed(self, key: str, subscriptions: list[Subscription]) -> None:
        by_channel: defaultdict[str, list[Subscription]] = defaultdict(list)
        for subscription in subscriptions:
            if subscription.interrupted:
                by_channel[subscription.channel].append(subscription)
        for channel, several in by_channel.items():
            since = Position(min(subscription.offset for subscription in several), "")
            top, missed = await self._read(key, channel, since, several[0].head)
            for subscription in several:
                subscription.catch_up(top, missed)

    async def _read(
        self, key: str, channel: str, since: Position, head: Frame
    ) -> tuple[Position | None, list[Delivery]]:
        """The top of a stream and what is behind a position; None if the broker refuses."""
        try:
            history = await self._broker.history(key, channel, since=since)
        except BrokerUnavailable:
            raise
        except BrokerError:
            return None, []
        return history.position, [(each, publication_push(head, each.text, each.size)) for each in history.publications]

    def _deliver_live(self, key: str, channel: str, data: str, info: str) -> int:
        local = self._local.get(key)
        if local is None:
            return 0
        text = publication_text(data, info, 0)
        return local.deliver(Publication(key, channel, 0, "", text, frame(text).size))

    def _deliver_waiting(self, key: str, seen_until: int) -> None:
        """A flush ended: what came while it ran and is left goes live now, as it would have."""
        local = self._local.get(key)
        left = self._backlog.waiting(key)
        if local is None or not left:
            return
        for subscription in local.subscriptions():
            subscription.joined_at = min(subscription.joined_at, seen_until)
        for waiting in left:
            if waiting.serial > seen_until:
                self._deliver_live(key, waiting.channel, waiting.data, waiting.info)
