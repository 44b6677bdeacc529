"""However a connection ends, nothing of it stays: no task, no timer, no subscription, no presence, no manager."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from dependency_injector import providers

from app.realtime.codes import Disconnect, DisconnectCode
from app.realtime.manager import UserManager
from app.realtime.memory import MemoryBroker
from containers import GatewayContainer
from tests.clock import ManualClock
from tests.gateway import Client, RunningGateway, build_container, eventually, serving, token
from tests.wire.faulty import FaultyBroker, make_faulty


def left_over(container: GatewayContainer, broker: MemoryBroker) -> dict[str, int]:
    """What of connections and managers is left."""
    stats = broker.stats()
    connections = container.metrics().connections
    return {
        "managers": container.manager.count(),
        "living": len(container.lifecycle()),
        "subscribers": stats.subscribers,
        "presences": stats.presences,
        "connections": int(sum(s.value for family in connections.collect() for s in family.samples)),
    }


NOTHING = {"managers": 0, "living": 0, "subscribers": 0, "presences": 0, "connections": 0}


@asynccontextmanager
async def leaving_nothing(container: GatewayContainer | None = None) -> AsyncIterator[RunningGateway]:
    """Serve, and see that after the block nothing is left, with the garbage collector off: nothing may wait for it."""
    container = container or build_container()
    broker = container.broker()
    memory = broker.broker if isinstance(broker, FaultyBroker) else broker
    assert isinstance(memory, MemoryBroker)
    gc.collect()
    gc.disable()
    try:
        async with serving(container) as gateway:
            tasks = asyncio.all_tasks()
            yield gateway
            await eventually(lambda: left_over(container, memory) == NOTHING)
            await eventually(lambda: not asyncio.all_tasks() - tasks)
    finally:
        gc.enable()
    assert left_over(container, memory) == NOTHING


async def busy(gateway: RunningGateway, client: Client, user: str = "alice") -> None:
    """Connect, subscribe to some channels and use them."""
    await client.result("connect", {"token": token(user, exp=gateway.container.clock().time() + 600)})
    for channel in ("news", "jobs"):
        sub_token = token(user, channel=channel, exp=gateway.container.clock().time() + 60)
        await client.result("subscribe", {"channel": channel, "token": sub_token, "join_leave": True})
        await client.result("publish", {"channel": channel, "data": 1})


async def test_after_clients_close_nothing_is_left() -> None:
    async with leaving_nothing() as gateway:
        for user in ("alice", "alice", "bob"):
            async with gateway.client() as client:
                await busy(gateway, client, user)
        async with gateway.client() as one, gateway.client() as two:
            await busy(gateway, one)
            await busy(gateway, two)
            assert gateway.container.manager.count() == 1


async def test_after_sockets_are_cut_off_nothing_is_left() -> None:
    async with leaving_nothing() as gateway:
        for number in range(5):
            async with gateway.client() as client:
                if number:
                    await busy(gateway, client)
                client.socket.transport.abort()


@pytest.mark.parametrize("code", [DisconnectCode.FORCE_DISCONNECT, DisconnectCode.SLOW, DisconnectCode.EXPIRED])
async def test_after_the_server_disconnects_nothing_is_left_even_while_the_client_holds_on(
    code: DisconnectCode,
) -> None:
    container = build_container()
    async with leaving_nothing(container) as gateway, gateway.client() as client:
        await busy(gateway, client)
        for manager in container.lifecycle().living():
            manager.disconnect_all(Disconnect(code))
        del manager
        assert await client.closed() == (code.code, code.reason)


async def test_every_way_to_be_refused_leaves_nothing() -> None:
    container = build_container(limits={"connections_per_user": 1}, auth={"hmac_secret": "x" * 32, "leeway": 0})
    good = token("alice", secret="x" * 32)
    async with leaving_nothing(container) as gateway:
        for frame in ("", "{", '{"id":1,"subscribe":{}}', '{"id":1,"connect":{}}', '{"id":1,"connect":{"token":"x"}}'):
            async with gateway.client() as client:
                await client.send(frame)
                await client.closed()
        async with gateway.client() as first, gateway.client() as second:
            await first.result("connect", {"token": good})
            await second.send({"id": 1, "connect": {"token": good}})
            assert (await second.closed())[0] == 3504


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", ["subscribe", "history", "add_presence"])
@pytest.mark.parametrize("ending", ["cut off", "closed", "disconnected"])
async def test_a_connection_that_ends_while_the_broker_is_slow_leaves_nothing(
    moment: str, step: str, ending: str
) -> None:
    container = build_container()
    faulty = make_faulty(container)
    reached, opened = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        reached.set()
        await opened.wait()

    async with leaving_nothing(container) as gateway, gateway.client() as client:
        if step == "subscribe":
            getattr(faulty, moment)[step] = wait
            await client.send({"id": 1, "connect": {"token": token("alice")}})
        else:
            await client.result("connect", {"token": token("alice")})
            getattr(faulty, moment)[step] = wait
            await client.send({"id": 2, "subscribe": {"channel": "news", "join_leave": True}})
        await asyncio.wait_for(reached.wait(), 5)
        match ending:
            case "cut off":
                client.socket.transport.abort()
            case "closed":
                # Its close frame arrives while the server waits for the broker.
                asyncio.get_running_loop().call_later(0.01, opened.set)
                await client.socket.close()
            case _:
                for manager in container.lifecycle().living():
                    manager.disconnect_all(Disconnect(DisconnectCode.FORCE_DISCONNECT))
                del manager
        opened.set()


async def test_calls_that_run_when_a_connection_ends_are_cancelled() -> None:
    cancelled = 0

    async def wait(manager: UserManager, data: Any) -> None:
        nonlocal cancelled
        try:
            await asyncio.Event().wait()
        finally:
            cancelled += 1

    container = build_container()
    container.rpc.add_kwargs(wait=providers.Object(wait))
    async with leaving_nothing(container) as gateway, gateway.client() as client:
        await busy(gateway, client)
        for number in range(5):
            await client.send({"id": 50 + number, "rpc": {"method": "wait"}})
        await client.error("no_such_method")
        client.socket.transport.abort()
        await eventually(lambda: cancelled == 5)


async def test_timers_end_with_their_connection() -> None:
    clock = ManualClock()
    container = build_container(clock=clock)
    async with leaving_nothing(container) as gateway:
        before = clock.pending
        async with gateway.client() as client:
            await busy(gateway, client)
            assert clock.pending >= before + 4, "ping, expiry of the connection and of two subscriptions"
        async with gateway.client() as client:
            await eventually(lambda: clock.pending > before)
        # What the broker will forget later is all that may be left.
        await eventually(lambda: clock.pending <= before + 1)


async def test_a_gateway_that_stops_leaves_nothing() -> None:
    container = build_container()
    broker = container.broker()
    assert isinstance(broker, MemoryBroker)
    before = asyncio.all_tasks()
    async with serving(container) as gateway:
        clients = []
        for number in range(20):
            manager = gateway.client()
            client = await manager.__aenter__()
            clients.append((manager, client))
            await busy(gateway, client, f"user-{number % 7}")
        assert container.manager.count() == 7
    codes = {(await client.closed())[0] for _, client in clients}
    for manager, _ in clients:
        await manager.__aexit__(None, None, None)
    assert codes == {3001}
    assert left_over(container, broker) == NOTHING
    await eventually(lambda: not asyncio.all_tasks() - before)


async def test_a_handler_task_that_is_cancelled_leaves_nothing() -> None:
    async with leaving_nothing() as gateway, gateway.client() as client:
        before = asyncio.all_tasks()
        async with gateway.client() as doomed:
            await busy(gateway, doomed)
            handlers = [task for task in asyncio.all_tasks() - before if "run_asgi" in repr(task.get_coro())]
            assert handlers, "the server runs each WebSocket in a task of its own"
            for task in handlers:
                task.cancel()
            await doomed.closed()
        await client.result("connect", {"token": token("bob")})


async def test_two_devices_that_come_and_go_while_events_flow_lose_nothing_and_leave_nothing() -> None:
    rounds, container = 150, build_container(limits={"connections_per_user": 64})
    async with leaving_nothing(container) as gateway:
        stopped = asyncio.Event()
        sent = 0

        async def flow() -> None:
            nonlocal sent
            while not stopped.is_set():
                sent += 1
                await container.publisher().publish_to_user("alice", "note", sent)
                assert container.manager.count() <= 1
                await asyncio.sleep(0)

        async def device() -> list[int]:
            seen: list[int] = []
            position: dict[str, Any] = {}
            for number in range(rounds):
                async with gateway.client() as client:
                    subs = {"#alice": {"recover": True, **position}}
                    sub = (await client.result("connect", {"token": token("alice"), "subs": subs}))["subs"]["#alice"]
                    assert sub.get("recovered"), sub
                    got = [*sub.get("publications", ()), *(await client.publications(1))]
                    seen += [publication["data"]["data"] for publication in got]
                    position = {"epoch": sub["epoch"], "offset": got[-1]["offset"]}
                    if number % 3 == 0:
                        client.socket.transport.abort()
            return seen

        flowing = asyncio.create_task(flow())
        logs = await asyncio.gather(device(), device())
        stopped.set()
        await flowing
        for seen in logs:
            assert seen == list(range(1, len(seen) + 1))
