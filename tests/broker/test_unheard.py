"""What a node published, and would have heard of later than of the loss of the broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.realtime.redis import RedisBroker
from tests.broker.engines import Inbox, redis_broker
from tests.engine.server import StandAlone
from tests.gateway import eventually
from tests.line import Line, line_to

ALICE, BOB = "user:alice", "user:bob"


@asynccontextmanager
async def over_a_line(server: StandAlone, *, pending: int = 100) -> AsyncIterator[tuple[RedisBroker, Line]]:
    async with line_to(server.port) as line:
        broker = redis_broker(f"redis://127.0.0.1:{line.port}", timeout=0.4, check_interval=0.2, pending=pending)
        await broker.start()
        try:
            yield broker, line
        finally:
            await broker.close()


async def test_what_was_acknowledged_and_not_heard_goes_out_live_to_its_user_when_the_broker_is_lost(
    stand_alone: StandAlone,
) -> None:
    alice, bob = Inbox(), Inbox()
    async with over_a_line(stand_alone) as (broker, line):
        await broker.subscribe(ALICE, alice)
        await broker.subscribe(BOB, bob)
        await broker.publish(ALICE, "news", "1")
        await alice.wait(1)
        line.hang(b"ssubscribe")
        published = [await broker.publish(ALICE, "news", data, info='{"user":"x"}') for data in ("2", '"ä"')]
        await broker.publish("user:carol", "news", "3")
        await eventually(lambda: alice.interruptions == 1)
        texts = ['{"data":2,"info":{"user":"x"}}', '{"data":"ä","info":{"user":"x"}}']
        assert alice.ahead == list(zip(texts, (each.position for each in published), strict=True))
        assert (alice.offsets, bob.ahead) == ([1], [])


async def test_what_was_heard_does_not_go_out_again(stand_alone: StandAlone) -> None:
    inbox = Inbox()
    async with over_a_line(stand_alone) as (broker, line):
        await broker.subscribe(ALICE, inbox)
        for number in range(20):
            await broker.publish(ALICE, "news", str(number))
        await inbox.wait(20)
        line.drop()
        await eventually(lambda: inbox.interruptions == 1)
        assert inbox.ahead == []


async def test_what_will_never_come_is_forgotten(stand_alone: StandAlone) -> None:
    inbox = Inbox()
    async with over_a_line(stand_alone) as (broker, line):
        await broker.subscribe(ALICE, inbox)
        broker.unsubscribe(ALICE, inbox)
        subscribing = asyncio.create_task(broker.subscribe(ALICE, inbox))
        await broker.publish(ALICE, "news", "1")  # before or after the server knows of the subscriber
        await subscribing
        await asyncio.sleep(0.5)  # a check has shown that nothing more comes
        line.drop()
        await eventually(lambda: inbox.interruptions == 1)
        assert inbox.ahead == []


async def test_no_more_is_noted_than_may_wait(stand_alone: StandAlone) -> None:
    inbox = Inbox()
    async with over_a_line(stand_alone, pending=2) as (broker, line):
        await broker.subscribe(ALICE, inbox)
        line.hang(b"ssubscribe")
        for number in range(4):
            await broker.publish(ALICE, "news", str(number))
        await eventually(lambda: inbox.interruptions == 1)
        assert [text for text, _ in inbox.ahead] == ['{"data":0}', '{"data":1}']
