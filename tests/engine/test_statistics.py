"""What `/metrics` tells of Redis and Valkey, read from gateways that serve."""

from __future__ import annotations

import asyncio

import httpx

from app.realtime.redis.statistics import Statistics
from tests.clock import ManualClock
from tests.engine.fixtures import Engines
from tests.engine.server import StandAlone
from tests.gateway import RunningGateway, build_container, eventually, serving


def on(engine: StandAlone) -> dict[str, object]:
    return {"url": engine.url, "timeout": 1, "check_interval": 0.2}


async def metric(api: httpx.AsyncClient, name: str) -> float:
    lines = (await api.get("/metrics")).text.splitlines()
    return float(next(line for line in lines if line.startswith(f"bulkhead_broker_{name} ")).split()[1])


def up(gateway: RunningGateway) -> bool:
    return gateway.container.broker().healthy()


async def test_a_node_decodes_what_is_for_its_own_users_and_nothing_else(stand_alone: StandAlone) -> None:
    async with (
        serving(build_container(broker=on(stand_alone))) as first,
        serving(build_container(broker=on(stand_alone))) as second,
        first.api() as api,
        second.api() as other,
        first.connected("alice") as alice,
        second.connected("bob") as bob,
    ):
        for number in range(10):
            for user in ("alice", "bob", "nobody"):
                answer = await api.post(f"/v1/users/{user}/events", json={"type": "t", "data": number})
                assert answer.status_code == 200
        await alice.publications(10)
        await bob.publications(10)
        for node in (api, other):
            assert await metric(node, "messages_total") == 10
            assert await metric(node, "strays_total") == 0
            assert 0 < await metric(node, "echo_seconds") < 1
            async with asyncio.timeout(10):
                while await metric(node, "waiting"):  # noqa: ASYNC110 - a check may be on its way
                    await asyncio.sleep(0.01)


async def test_losses_and_their_time_are_counted(engines: Engines) -> None:
    engine = engines.stand_alone()
    async with serving(build_container(broker=on(engine))) as gateway, gateway.api() as api:
        assert await metric(api, "losses_total") == await metric(api, "lost_seconds_total") == 0
        assert await metric(api, "up") == 1
        await asyncio.to_thread(engine.kill)
        await eventually(lambda: not up(gateway))
        await asyncio.sleep(0.05)
        assert await metric(api, "losses_total") == 1
        assert await metric(api, "up") == await metric(api, "waiting") == 0
        assert await metric(api, "lost_seconds_total") >= 0.05
        await asyncio.to_thread(engine.restart)
        await eventually(lambda: up(gateway))
        lost = await metric(api, "lost_seconds_total")
        assert lost >= 1  # whatever was on its way has to be over first
        await asyncio.sleep(0.05)
        assert await metric(api, "lost_seconds_total") == lost
        assert await metric(api, "losses_total") == 1


async def test_a_start_without_the_engine_is_a_loss(engines: Engines) -> None:
    engine = engines.stand_alone()
    engine.kill()
    async with serving(build_container(broker=on(engine))) as gateway, gateway.api() as api:
        assert await metric(api, "losses_total") == 1
        assert await metric(api, "lost_seconds_total") > 0


def test_time_is_counted_from_the_first_loss_to_the_return() -> None:
    clock = ManualClock()
    statistics = Statistics(clock.time)
    statistics.reached()
    assert statistics.lost_seconds() == 0
    statistics.lost()
    clock.advance(2)
    statistics.lost()
    clock.advance(3)
    assert (statistics.losses, statistics.lost_seconds()) == (1, 5)
    statistics.reached()
    clock.advance(7)
    assert (statistics.losses, statistics.lost_seconds()) == (1, 5)
    statistics.lost()
    clock.advance(1)
    assert (statistics.losses, statistics.lost_seconds()) == (2, 6)
