"""Another attempt at a publish whose fate is unknown."""

from __future__ import annotations

import asyncio

import pytest

from app.realtime.broker import BrokerUnavailable
from app.realtime.redis import RedisBroker
from tests.broker.engines import redis_broker
from tests.engine.server import StandAlone
from tests.line import Line, line_to

KEY = "user:alice"


@pytest.mark.parametrize("key", [None, "k"])
async def test_an_attempt_that_arrived_is_not_published_again_and_is_no_duplicate_of_itself(
    stand_alone: StandAlone, key: str | None
) -> None:
    broker = redis_broker(stand_alone.url, node="n")
    await broker.start()
    try:
        first = await broker.publish(KEY, "news", "1", idempotency_key=key)  # its ticket is n-1
        again = await broker.publish(KEY, "news", "1", idempotency_key=key, ticket="n-1")
        assert (again.position, again.duplicate) == (first.position, False)
        other = await broker.publish(KEY, "news", "2", idempotency_key=key, ticket="n-0")
        assert (other.offset, other.duplicate) == ((1, True) if key else (2, False))
    finally:
        await broker.close()


class Flush:
    """A listener that publishes without end when the broker is back, and hears no more of what is published."""

    def __init__(self, line: Line) -> None:
        """Nothing is published yet."""
        self.broker: RedisBroker | None = None
        self.ended = asyncio.Event()
        self.error: BaseException | None = None
        self._line = line

    async def broker_lost(self, reason: str) -> None:
        """See `BrokerListener`."""

    async def broker_restored(self) -> None:
        """See `BrokerListener`."""
        assert self.broker is not None
        self._line.hang(b"ssubscribe")
        try:
            while True:
                await self.broker.publish(KEY, "news", "1")
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.ended.set()

    def broker_message(self, message: str) -> None:
        """See `BrokerListener`."""


async def test_who_publishes_while_the_broker_comes_back_is_told_what_is_uncertain_when_it_is_lost_again(
    stand_alone: StandAlone,
) -> None:
    async with line_to(stand_alone.port) as line:
        line.cut()
        listener = Flush(line)
        broker = redis_broker(f"redis://127.0.0.1:{line.port}", timeout=1, check_interval=0.1)
        listener.broker = broker
        await broker.start(listener)
        try:
            await line.heal()
            async with asyncio.timeout(5):
                await listener.ended.wait()
            # Not a cancellation, which would say nothing of whether the publish arrived, and carry no ticket.
            assert isinstance(listener.error, BrokerUnavailable), repr(listener.error)
        finally:
            await broker.close()
