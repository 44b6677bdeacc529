"""What nodes tell each other and remember together, on each engine."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from app.realtime.broker import Broker
from tests.broker.engines import Ear, Inbox, attached

ALICE = "user:alice"


@pytest.fixture(params=["valkey", "redis", "cluster"])
async def nodes(request: pytest.FixtureRequest) -> AsyncIterator[list[tuple[Broker, Ear]]]:
    """Three nodes of one gateway."""
    name = request.param
    url = request.getfixturevalue("cluster").url if name == "cluster" else request.getfixturevalue(f"{name}_url")
    prefix, found = f"test-{uuid.uuid4()}", list[tuple[Broker, Ear]]()
    async with AsyncExitStack() as stack:
        for _ in range(3):
            ear = Ear()
            options = {"prefix": prefix, "timeout": 2, "presence_ttl": 0.6}
            found.append((await stack.enter_async_context(attached(url, ear, **options)), ear))
        yield found


async def test_what_is_stored_is_there_until_it_is_forgotten(broker: Broker) -> None:
    assert await broker.stored() == {}
    await broker.store("a b", "ü")
    await broker.store("mode:user%7D{}", "")
    await broker.store("a b", "2")
    assert await broker.stored() == {"a b": "2", "mode:user%7D{}": ""}
    assert [await broker.recall(name) for name in ("a b", "mode:user%7D{}", "c")] == ["2", "", None]
    await broker.store("a b", None)
    await broker.store("never there", None)
    assert await broker.stored() == {"mode:user%7D{}": ""}


async def test_a_node_does_not_hear_itself(broker: Broker) -> None:
    inbox = Inbox()
    await broker.subscribe("nodes", inbox)
    await broker.broadcast("hello")
    await broker.publish("nodes", "news", "1")
    await inbox.wait(1)
    assert len(inbox.publications) == 1


async def test_all_other_nodes_hear_a_broadcast_once_and_in_order(nodes: list[tuple[Broker, Ear]]) -> None:
    texts = ["hello", "", "a b\x00ü", "x" * 10_000]
    for text in texts:
        await nodes[0][0].broadcast(text)
    for broker, ear in nodes[1:]:
        await ear.wait(messages=len(texts))
        assert ear.messages == texts
        await broker.store("name", "value")
        assert await nodes[0][0].stored() == {"name": "value"}
    assert nodes[0][1].messages == []


async def test_a_publication_of_any_node_reaches_those_that_hold_the_user_and_no_others(
    nodes: list[tuple[Broker, Ear]],
) -> None:
    inboxes = [Inbox(), Inbox()]
    for (broker, _), inbox in zip(nodes, inboxes, strict=False):
        await broker.subscribe(ALICE, inbox)
    await asyncio.gather(
        *(
            broker.publish(ALICE, "news", f'"{number} {each}"')
            for number, (broker, _) in enumerate(nodes)
            for each in range(20)
        )
    )
    for inbox in inboxes:
        await inbox.wait(60)
        assert inbox.offsets == list(range(1, 61))
    assert inboxes[0].publications == inboxes[1].publications
    for number in range(3):
        own = [got.text for got in inboxes[0].publications if f'"{number} ' in got.text]
        assert [int(text.split()[1].partition('"')[0]) for text in own] == list(range(20))
    again = await nodes[2][0].publish(ALICE, "news", "1", idempotency_key="k")
    assert (await nodes[1][0].publish(ALICE, "news", "1", idempotency_key="k")).position == again.position


async def test_who_is_present_on_any_node_is_so_on_all_and_no_longer_than_the_node(
    nodes: list[tuple[Broker, Ear]],
) -> None:
    for number, (broker, _) in enumerate(nodes):
        await broker.add_presence(ALICE, "news", f"c{number}", "{}")
    assert set(await nodes[0][0].presence(ALICE, "news")) == {"c0", "c1", "c2"}
    await nodes[2][0].close()
    await asyncio.sleep(0.8)
    assert set(await nodes[0][0].presence(ALICE, "news")) == {"c0", "c1"}


async def test_a_position_is_held_while_any_node_has_a_subscriber(nodes: list[tuple[Broker, Ear]]) -> None:
    inboxes = [Inbox() for _ in nodes]
    for (broker, _), inbox in zip(nodes, inboxes, strict=True):
        await broker.subscribe(ALICE, inbox)
    position = (await nodes[0][0].publish(ALICE, "news", "1")).position
    await asyncio.gather(*(inbox.wait(1) for inbox in inboxes))
    for (broker, _), inbox in zip(nodes[:2], inboxes[:2], strict=True):
        broker.unsubscribe(ALICE, inbox)
    assert (await nodes[2][0].history(ALICE, "news", limit=0)).position == position
    await nodes[1][0].publish(ALICE, "news", "2")
    await inboxes[2].wait(2)
    assert [inbox.offsets[-1] for inbox in inboxes] == [1, 1, 2]
