"""What the engine refuses one user when it is back is nothing to the others, and does not last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest

from tests.engine.fixtures import Engines
from tests.engine.server import Node
from tests.gateway import Client, RunningGateway, build_container, eventually, serving
from tests.http.modes import metric, publish
from tests.nodes.options import settings
from tests.nodes.world import until

pytestmark = pytest.mark.nodes


@asynccontextmanager
async def node(server: Node, **options: Any) -> AsyncIterator[tuple[RunningGateway, httpx.AsyncClient]]:
    """A node that runs, and its back end."""
    async with serving(build_container(**settings(server.url, **options))) as gateway, gateway.api() as api:
        yield gateway, api


async def is_ready(api: httpx.AsyncClient) -> bool:
    return (await api.get("/ready")).status_code == 200


def waiting(gateway: RunningGateway) -> int:
    return gateway.container.backlog().size


async def lose(server: Node, gateway: RunningGateway) -> None:
    """Break the line to the server; returns when the node knows."""
    server.call("CLIENT", "KILL", "TYPE", "pubsub")
    await eventually(lambda: not gateway.container.broker().healthy())


async def test_a_user_who_subscribed_to_too_much_meanwhile_keeps_nobody_degraded(engines: Engines) -> None:
    server = engines.stand_alone(lasting=True)
    async with node(server, broker={"max_streams_per_user": 5}) as (gateway, api), gateway.connected("alice") as alice:
        for number in range(3):
            assert (await publish(api, channel=f"earlier-{number}")).json()["offset"] == 1
        await asyncio.to_thread(server.kill)
        await eventually(lambda: not gateway.container.broker().healthy())
        # A node that cannot ask counts what it knows of: her own channel and four more.
        assert await subscribe(alice) == [None] * 4 + [106] * 2
        for user in ("alice", "bob"):
            assert (await publish(api, user)).json()["queued"]
        await asyncio.to_thread(server.start)
        await until(partial(is_ready, api))
        await eventually(lambda: waiting(gateway) == 0)
        assert [(await publish(api, user)).json()["offset"] for user in ("alice", "bob")] == [2, 2]
        # All have to subscribe again, as no position was known; for what is too much that is refused.
        ended = [push["unsubscribe"]["code"] for push in await alice.arrived() if "unsubscribe" in push]
        assert ended == [2500] * 4
        assert await subscribe(alice) == [None] + [106] * 5


async def subscribe(client: Client) -> list[int | None]:
    """Subscribe to six channels; the error of each."""
    replies = [await client.call("subscribe", {"channel": f"channel-{number}"}) for number in range(6)]
    return [reply.get("error", {}).get("code") for reply in replies]


async def test_what_waited_and_a_full_engine_refuses_waits_on_and_others_are_served(engines: Engines) -> None:
    server = engines.stand_alone(lasting=True)
    async with node(server) as (gateway, api), gateway.connected("alice") as alice, gateway.connected("bob") as bob:
        for user in ("alice", "bob"):
            await publish(api, user, data=1)
        await lose(server, gateway)
        server.call("CONFIG", "SET", "maxmemory", "1")
        assert (await publish(api, data=2)).json()["queued"]
        await until(partial(is_ready, api))
        assert (await api.get("/health")).json()["status"] == "healthy"
        for user in ("alice", "bob"):
            (report,) = (await api.get(f"/v1/users/{user}")).json()["managers"]
            assert report["mode"] == "unified"
        assert (await publish(api, "bob")).status_code == 503
        assert (await publish(api, data=3)).json()["queued"], "behind what waits"
        server.call("CONFIG", "SET", "maxmemory", "0")
        await eventually(lambda: waiting(gateway) == 0)
        for user, number in (("alice", 4), ("bob", 2)):
            assert (await publish(api, user, data=number)).json()["offset"] == number
        seen: list[int] = []
        await until(partial(has_seen, alice, 4, seen))
        assert seen == [1, 2, 3, 4]
        seen.clear()
        await until(partial(has_seen, bob, 2, seen))
        assert seen == [1, 2]


async def has_seen(client: Client, wanted: int, seen: list[int]) -> bool:
    seen += [push["pub"]["data"]["data"] for push in await client.arrived() if "pub" in push]
    return len(seen) >= wanted


async def test_what_the_engine_refuses_for_as_long_as_events_are_kept_is_dropped_and_counted(
    engines: Engines, caplog: pytest.LogCaptureFixture
) -> None:
    server = engines.stand_alone(lasting=True)
    async with node(server, history={"ttl": 3}) as (gateway, api):
        await publish(api)
        await lose(server, gateway)
        server.call("CONFIG", "SET", "maxmemory", "1")
        assert (await publish(api)).json()["queued"]
        assert (await publish(api)).json()["queued"]
        await until(partial(is_ready, api))
        assert waiting(gateway)
        await until(lambda: is_empty(gateway))
        assert await metric(api, "bulkhead_refused_publications_total", reason="broker") == 2
        [record] = [each for each in caplog.records if "dropped" in each.message]
        assert record.__dict__["publishes"] == 2
        server.call("CONFIG", "SET", "maxmemory", "0")
        assert "epoch" in (await publish(api)).json()


async def is_empty(gateway: RunningGateway) -> bool:
    return not waiting(gateway)


async def test_a_node_that_starts_on_a_full_engine_serves_and_tells_later_what_operators_set(engines: Engines) -> None:
    server = engines.stand_alone()
    server.call("CONFIG", "SET", "maxmemory", "1")
    async with node(server) as (_, api), node(server) as (_, other):
        assert await is_ready(api)
        await api.put("/v1/mode", json={"mode": "degraded"})
        assert (await other.get("/health")).json()["mode"] == "unified"
        server.call("CONFIG", "SET", "maxmemory", "0")
        await until(partial(has_mode, other, "degraded"))


async def has_mode(api: httpx.AsyncClient, mode: str) -> bool:
    return bool((await api.get("/health")).json()["mode"] == mode)
