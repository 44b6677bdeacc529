"""The brokers that the contract is tried on, with bounds small enough to reach."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from app.realtime.broker import Broker, Position, Publication
from app.realtime.clock import Clock
from app.realtime.memory import MemoryBroker
from app.realtime.redis import RedisBroker, RedisOptions, servers
from tests.clock import ManualClock


@dataclass(frozen=True)
class Bounds:
    """What an engine is configured with; seconds may differ from engine to engine, for those that really wait."""

    history_size: int = 5
    history_ttl: float = 60
    idempotency_ttl: float = 20
    idempotency_keys: int = 4
    streams: int = 6


@dataclass(frozen=True)
class Engine:
    """A started broker, its bounds, and how time passes for it."""

    broker: Broker
    bounds: Bounds
    advance: Callable[[float], Awaitable[None]]


def memory_broker(
    clock: Clock,
    bounds: Bounds = Bounds(),
    *,
    max_bytes: int = 1_000_000,
    max_bytes_per_user: int = 1_000_000,
    idempotency_keys: int = 1_000_000,
) -> MemoryBroker:
    """A `MemoryBroker` with these bounds."""
    return MemoryBroker(
        clock=clock,
        history_size=bounds.history_size,
        history_ttl=bounds.history_ttl,
        max_bytes=max_bytes,
        max_bytes_per_user=max_bytes_per_user,
        max_streams_per_user=bounds.streams,
        idempotency_ttl=bounds.idempotency_ttl,
        idempotency_keys_per_user=bounds.idempotency_keys,
        idempotency_keys=idempotency_keys,
    )


@asynccontextmanager
async def memory() -> AsyncIterator[Engine]:
    """The broker in this process; its time is moved by hand."""
    clock, bounds = ManualClock(), Bounds()
    broker = memory_broker(clock, bounds)

    async def advance(seconds: float) -> None:
        clock.advance(seconds)

    await broker.start()
    yield Engine(broker, bounds, advance)
    await broker.close()


REDIS_BOUNDS = Bounds(history_ttl=0.8, idempotency_ttl=0.8)


def redis_broker(url: str, bounds: Bounds = REDIS_BOUNDS, *, node: str = "", **options: Any) -> RedisBroker:
    """A `RedisBroker` with these bounds, whose time is real; by default its keys have a prefix of their own."""
    settings: dict[str, Any] = {
        "history_size": bounds.history_size,
        "history_ttl": bounds.history_ttl,
        "max_streams_per_user": bounds.streams,
        "idempotency_ttl": bounds.idempotency_ttl,
        "idempotency_keys_per_user": bounds.idempotency_keys,
        "presence_ttl": 30,
        "prefix": f"test-{uuid.uuid4()}",
        "timeout": 2,
        "check_interval": 0.5,
        "pending": 10_000,
        **options,
    }
    return RedisBroker(servers(url, settings["timeout"]), RedisOptions(**settings), node)


@asynccontextmanager
async def on_redis(url: str) -> AsyncIterator[Engine]:
    """A broker on servers that run, to which time passes as it does."""
    broker = redis_broker(url)
    await broker.start()
    yield Engine(broker, REDIS_BOUNDS, asyncio.sleep)
    await broker.close()


class Inbox:
    """A subscriber that notes what it gets; `wait` is for engines that deliver a little later."""

    def __init__(self, connections: int = 1) -> None:
        """Says that each publication reached so many `connections`."""
        self.publications: list[Publication] = []
        self.pushes: list[tuple[str, str, str]] = []
        self.interruptions = 0
        self.ahead: list[tuple[str, Position]] = []
        self._connections = connections
        self._changed = asyncio.Event()

    def deliver(self, publication: Publication) -> int:
        """See `Subscriber.deliver`."""
        self.publications.append(publication)
        self._changed.set()
        return self._connections

    def notify(self, key: str, channel: str, push: str) -> None:
        """See `Subscriber.notify`."""
        self.pushes.append((key, channel, push))
        self._changed.set()

    def subscribed(self, channel: str) -> int:
        """See `Subscriber.subscribed`."""
        return self._connections

    def interrupt(self) -> None:
        """See `Subscriber.interrupt`."""
        self.interruptions += 1

    def deliver_ahead(self, publication: Publication, position: Position) -> None:
        """See `Subscriber.deliver_ahead`."""
        self.ahead.append((publication.text, position))

    @property
    def offsets(self) -> list[int]:
        """Offsets of the publications so far."""
        return [publication.offset for publication in self.publications]

    async def wait(self, count: int) -> None:
        """Until so many publications and pushes have come.

        Raises:
            TimeoutError: they have not within five seconds.
        """
        async with asyncio.timeout(5):
            while len(self.publications) + len(self.pushes) < count:
                self._changed.clear()
                await self._changed.wait()


class Ear:
    """A listener that notes what it hears."""

    def __init__(self) -> None:
        """Nothing heard yet."""
        self.heard: list[str] = []
        self.messages: list[str] = []
        self.reasons: list[str] = []
        self.failures: list[Exception] = []
        self._changed = asyncio.Event()

    async def broker_lost(self, reason: str) -> None:
        """See `BrokerListener.broker_lost`."""
        self.reasons.append(reason)
        self._note("lost")

    async def broker_restored(self) -> None:
        """See `BrokerListener.broker_restored`; raises what stands in `failures`, one each time."""
        self._note("restored")
        if self.failures:
            raise self.failures.pop(0)

    def broker_message(self, message: str) -> None:
        """See `BrokerListener.broker_message`."""
        self.messages.append(message)
        self._changed.set()

    def _note(self, what: str) -> None:
        self.heard.append(what)
        self._changed.set()

    async def wait(self, *heard: str, messages: int = 0) -> None:
        """Until it has heard exactly this of the broker, and so many messages.

        Raises:
            TimeoutError: it has not within ten seconds.
        """
        async with asyncio.timeout(10):
            while self.heard != list(heard) or len(self.messages) < messages:
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def attached(url: str, ear: Ear | None = None, **options: Any) -> AsyncIterator[RedisBroker]:
    """A started `RedisBroker` that notices quickly and keeps history through a loss, closed after the block."""
    broker = redis_broker(url, **{"timeout": 0.5, "check_interval": 0.1, "history_ttl": 60, **options})
    await broker.start(ear)
    try:
        yield broker
    finally:
        await broker.close()
