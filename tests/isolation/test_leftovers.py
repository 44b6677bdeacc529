"""Nothing of a connection stays, not even until the garbage collector comes."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Callable

import pytest

from app.realtime.broker import BrokerError
from app.realtime.codes import Disconnect, DisconnectCode
from tests.gateway import Client, build_container, eventually, serving, token
from tests.wire.faulty import make_faulty

OURS = ("app.realtime.connection", "app.realtime.session", "app.realtime.subscription", "app.realtime.manager")


def alive() -> Counter[str]:
    """Objects of connections, sessions, subscriptions and managers, by type."""
    types = (type(one) for one in gc.get_objects())
    return Counter(kind.__name__ for kind in types if kind.__module__ in OURS and kind.__name__ != "Services")


async def plug(client: Client) -> None:
    client.socket.transport.abort()


async def goodbye(client: Client) -> None:
    await client.socket.close()


async def misbehave(client: Client) -> None:
    await client.send("nonsense")
    assert (await client.closed())[0] == 3501


@pytest.mark.parametrize("leave", [plug, goodbye, misbehave], ids=lambda leave: leave.__name__)
async def test_a_connection_that_ended_leaves_no_object_and_no_task(
    leave: Callable[[Client], asyncio.Future[None]], no_garbage_collection: None
) -> None:
    async with serving(build_container()) as gateway:
        before = alive()
        tasks = len(asyncio.all_tasks())
        async with gateway.connected("alice") as client:
            await client.result("subscribe", {"channel": "news"})
            assert alive()["ClientConnection"] == before["ClientConnection"] + 1
            assert alive()["UserManager"] == 1
            await leave(client)
            await eventually(lambda: not gateway.container.manager.count())
        await eventually(lambda: len(asyncio.all_tasks()) == tasks)
        assert alive() == before


async def test_a_connection_that_an_operator_ended_leaves_no_object(no_garbage_collection: None) -> None:
    async with serving(build_container()) as gateway:
        before = alive()
        async with gateway.connected("alice") as client:
            assert await gateway.container.control().disconnect("alice") == 1
            assert (await client.closed())[0] == 3503
        await eventually(lambda: alive() == before)


async def test_a_connection_that_the_broker_failed_leaves_no_object_with_those_who_keep_log_records(
    no_garbage_collection: None, caplog: pytest.LogCaptureFixture
) -> None:
    container = build_container()

    async def fail() -> None:
        raise BrokerError("it is down")

    make_faulty(container).before["subscribe"] = fail
    async with serving(container) as gateway:
        before = alive()
        async with gateway.client() as client:
            await client.send({"id": 1, "connect": {"token": token("alice")}})
            assert (await client.closed())[0] == 3004
        await eventually(lambda: alive() == before)
    assert "connect failed: it is down" in caplog.messages


async def test_a_connection_that_never_connected_leaves_no_object(no_garbage_collection: None) -> None:
    async with serving(build_container()) as gateway:
        before = alive()
        async with gateway.client() as client:
            await client.send({"id": 1, "connect": {"token": token("alice", secret="x" * 32)}})
            assert (await client.closed())[0] == Disconnect(DisconnectCode.INVALID_TOKEN).disconnect.code
        await eventually(lambda: alive() == before)
