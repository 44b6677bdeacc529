"""A Redis or Valkey under the gateway that is tried, in the place of the broker in memory."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import redis.asyncio
from dependency_injector import providers

from app.realtime.broker import BrokerError, History, Position, Publication, Published, Subscriber
from app.realtime.redis import RedisBroker, RedisOptions, servers
from containers import GatewayContainer
from tests.broker.engines import Inbox
from tests.isolation.ledger import BreakableBroker, Ledger

BARRIER = "barrier:"
"""A key that no user has."""


class RecordedRedisBroker(RedisBroker):
    """A broker whose streams are in a server, with a ledger of what went through it.

    Attributes:
        ledger: of all brokers of a gateway.
        to_lose: how many of the next publications are not delivered.
    """

    ledger: Ledger
    to_lose: Callable[[], int]

    def __init__(self, url: str, options: RedisOptions) -> None:
        """Not connected yet."""
        super().__init__(servers(url, options.timeout), options)
        self._recorders: dict[Subscriber, _Recorder] = {}

    async def publish(self, key: str, channel: str, data: str, **options: Any) -> Published:
        """See `Broker.publish`. It comes back over another connection, so that what is first puts it on record."""
        result = await super().publish(key, channel, data, **options)
        if not result.duplicate:
            self.ledger.append(key, channel, result.position, data)
        return result

    async def history(
        self, key: str, channel: str, *, since: Position | None = None, limit: int = -1, reverse: bool = False
    ) -> History:
        """See `Broker.history`. Reading may start a stream."""
        history = await super().history(key, channel, since=since, limit=limit, reverse=reverse)
        for publication in history.publications:
            position = Position(publication.offset, publication.epoch)
            self.ledger.append(key, channel, position, publication.text)
        self.ledger.see(key, channel, history.position)
        return history

    async def subscribe(self, key: str, subscriber: Subscriber) -> None:
        """See `Broker.subscribe`."""
        recorder = self._recorders.setdefault(subscriber, _Recorder(self, subscriber))
        await super().subscribe(key, recorder)

    def unsubscribe(self, key: str, subscriber: Subscriber) -> None:
        """See `Broker.unsubscribe`."""
        recorder = self._recorders.pop(subscriber, None)
        if recorder is not None:
            super().unsubscribe(key, recorder)


class _Recorder:
    """Stands before a subscriber."""

    def __init__(self, broker: RecordedRedisBroker, subscriber: Subscriber) -> None:
        self._broker = broker
        self._subscriber = subscriber

    def deliver(self, publication: Publication) -> int:
        ledger, key, channel = self._broker.ledger, publication.key, publication.channel
        ledger.append(key, channel, Position(publication.offset, publication.epoch), publication.text)
        before = self._broker.to_lose()
        reached = self._subscriber.deliver(publication)
        if self._broker.to_lose() != before:
            ledger.stream(key, channel).lost = True
        return reached

    def notify(self, key: str, channel: str, push: str) -> None:
        self._subscriber.notify(key, channel, push)

    def subscribed(self, channel: str) -> int:
        return self._subscriber.subscribed(channel)

    def interrupt(self) -> None:
        self._subscriber.interrupt()

    def deliver_ahead(self, publication: Publication, position: Position) -> None:
        self._subscriber.deliver_ahead(publication, position)


class BreakableEngine(BreakableBroker):
    """A server that is recorded, and can lose all that it has."""

    def __init__(self, container: GatewayContainer, ledger: Ledger, url: str) -> None:
        """Nothing is connected yet."""
        self._url = url
        super().__init__(container, ledger)

    async def settle(self, rounds: int = 1) -> None:
        """Until what was sent to the server has come back, and so often what was sent because of that."""
        for _ in range(rounds):
            inbox = Inbox()
            await RedisBroker.subscribe(self._engine, BARRIER, inbox)
            await RedisBroker.publish(self._engine, BARRIER, "barrier", "0")
            await inbox.wait(1)

    async def restart(self) -> None:
        """Lose all streams and presences; the server itself goes on."""
        self._ledger.start_anew()
        try:
            async with redis.asyncio.Redis.from_url(self._url) as client:
                await client.flushall()
        except redis.RedisError:
            raise BrokerError("it is gone") from None

    def _new(self) -> RecordedRedisBroker:
        settings = self._container.settings()
        wanted = settings.broker
        self._engine = made = RecordedRedisBroker(
            self._url,
            RedisOptions(
                history_size=settings.history.size,
                history_ttl=settings.history.ttl,
                max_streams_per_user=wanted.max_streams_per_user,
                idempotency_ttl=wanted.idempotency_ttl,
                idempotency_keys_per_user=wanted.idempotency_keys_per_user,
                presence_ttl=wanted.presence_ttl,
                prefix=f"isolation-{uuid.uuid4()}",
                timeout=wanted.timeout,
                check_interval=wanted.check_interval,
                pending=wanted.pending,
            ),
        )
        made.ledger = self._ledger
        made.to_lose = lambda: self.lose
        return made


def make_breakable_engine(container: GatewayContainer, ledger: Ledger, url: str) -> BreakableEngine:
    """Give a container a broker on a server, that is recorded and can be broken."""
    broker = BreakableEngine(container, ledger, url)
    container.broker.override(providers.Object(broker))
    return broker
