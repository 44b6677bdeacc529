"""A broker that can be slow, fail and lose what it delivers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from dependency_injector import providers

from app.realtime.broker import (
    Broker,
    BrokerListener,
    History,
    Position,
    Publication,
    Published,
    StreamInfo,
    Subscriber,
)
from containers import GatewayContainer

Fault = Callable[[], Awaitable[None]]
T = TypeVar("T")


class FaultyBroker:
    """Passes everything on to another broker; faults happen before or after its calls.

    Attributes:
        before, after: what to await around a call, by the method's name; it may wait, or raise.
        lose: so many of the next publications are kept in the stream and delivered to nobody.
    """

    def __init__(self, broker: Broker) -> None:
        """No fault yet."""
        self.broker = broker
        self.before: dict[str, Fault] = {}
        self.after: dict[str, Fault] = {}
        self.lose = 0
        self._subscribers: dict[Subscriber, _Losing] = {}

    async def _around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        if name in self.before:
            await self.before[name]()
        result = await call()
        if name in self.after:
            await self.after[name]()
        return result

    async def start(self, listener: BrokerListener | None = None) -> None:
        """See `Broker`."""
        await self.broker.start(listener)

    async def close(self) -> None:
        """See `Broker`."""
        await self.broker.close()

    def healthy(self) -> bool:
        """See `Broker`."""
        return self.broker.healthy()

    async def publish(
        self,
        key: str,
        channel: str,
        data: str,
        *,
        info: str = "",
        idempotency_key: str | None = None,
        ticket: str = "",
    ) -> Published:
        """See `Broker`."""
        return await self._around(
            "publish",
            lambda: self.broker.publish(key, channel, data, info=info, idempotency_key=idempotency_key, ticket=ticket),
        )

    async def history(
        self, key: str, channel: str, *, since: Position | None = None, limit: int = -1, reverse: bool = False
    ) -> History:
        """See `Broker`."""
        return await self._around(
            "history", lambda: self.broker.history(key, channel, since=since, limit=limit, reverse=reverse)
        )

    async def subscribe(self, key: str, subscriber: Subscriber) -> None:
        """See `Broker`. An `unsubscribe` that comes meanwhile counts as later, as the protocol wants it."""
        losing = self._subscribers.setdefault(subscriber, _Losing(self, subscriber))

        async def call() -> None:
            if self._subscribers.get(subscriber) is losing:
                await self.broker.subscribe(key, losing)

        await self._around("subscribe", call)

    def unsubscribe(self, key: str, subscriber: Subscriber) -> None:
        """See `Broker`."""
        losing = self._subscribers.pop(subscriber, None)
        if losing is not None:
            self.broker.unsubscribe(key, losing)

    def notify(self, key: str, channel: str, push: str) -> None:
        """See `Broker`."""
        self.broker.notify(key, channel, push)

    async def add_presence(self, key: str, channel: str, client: str, info: str) -> None:
        """See `Broker`."""
        await self._around("add_presence", lambda: self.broker.add_presence(key, channel, client, info))

    def remove_presence(self, key: str, channel: str, client: str) -> None:
        """See `Broker`."""
        self.broker.remove_presence(key, channel, client)

    async def presence(self, key: str, channel: str) -> dict[str, str]:
        """See `Broker`."""
        return await self.broker.presence(key, channel)

    async def streams(self, key: str) -> tuple[StreamInfo, ...]:
        """See `Broker`."""
        return await self.broker.streams(key)

    async def broadcast(self, message: str) -> None:
        """See `Broker`."""
        await self._around("broadcast", lambda: self.broker.broadcast(message))

    async def store(self, name: str, value: str | None) -> None:
        """See `Broker`."""
        await self._around("store", lambda: self.broker.store(name, value))

    async def recall(self, name: str) -> str | None:
        """See `Broker`."""
        return await self._around("recall", lambda: self.broker.recall(name))

    async def stored(self) -> dict[str, str]:
        """See `Broker`."""
        return await self._around("stored", self.broker.stored)


class _Losing:
    """Stands before a subscriber."""

    def __init__(self, faulty: FaultyBroker, subscriber: Subscriber) -> None:
        self._faulty = faulty
        self._subscriber = subscriber

    def deliver(self, publication: Publication) -> int:
        if self._faulty.lose:
            self._faulty.lose -= 1
            return 0
        return self._subscriber.deliver(publication)

    def notify(self, key: str, channel: str, push: str) -> None:
        self._subscriber.notify(key, channel, push)

    def subscribed(self, channel: str) -> int:
        return self._subscriber.subscribed(channel)

    def interrupt(self) -> None:
        self._subscriber.interrupt()

    def deliver_ahead(self, publication: Publication, position: Position) -> None:
        self._subscriber.deliver_ahead(publication, position)


def make_faulty(container: GatewayContainer) -> FaultyBroker:
    """Put a faulty broker before the one of the container."""
    faulty = FaultyBroker(container.broker())
    container.broker.override(providers.Object(faulty))
    return faulty
