"""What nodes do for each other, and what they do not hear of each other."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
import pytest

from tests.engine.fixtures import Engines
from tests.engine.server import Node, StandAlone
from tests.gateway import RunningGateway, build_container, eventually, serving, token
from tests.nodes.options import settings
from tests.nodes.world import until

pytestmark = pytest.mark.nodes


@asynccontextmanager
async def node(server: Node, **options: Any) -> AsyncIterator[tuple[RunningGateway, httpx.AsyncClient]]:
    """A node that runs, and its back end."""
    async with serving(build_container(**settings(server.url, **options))) as gateway, gateway.api() as api:
        yield gateway, api


async def mode_of(api: httpx.AsyncClient, user: str) -> str:
    return str((await api.get(f"/v1/users/{user}")).json()["managers"][0]["mode"])


def holders(server: Node) -> dict[str, int]:
    """Users, by how many nodes are subscribed for them."""
    channels = [channel for channel in server.call("PUBSUB", "SHARDCHANNELS") if ":user:" in channel]
    counts = server.call("PUBSUB", "SHARDNUMSUB", *channels) if channels else []
    return {name.split(":user:")[1].rstrip("}"): count for name, count in zip(counts[::2], counts[1::2], strict=True)}


def sent_to_subscribers(server: Node) -> int:
    """Bytes that the server has written to connections that are subscribed."""
    clients = str(server.call("CLIENT", "LIST", "TYPE", "PUBSUB"))
    return sum(int(count) for count in re.findall(r"tot-net-out=(\d+)", clients))


async def test_a_node_hears_of_those_users_alone_whom_it_holds(engines: Engines) -> None:
    server = engines.stand_alone()
    async with node(server, broker={"check_interval": 60}) as (one, api), node(server) as (two, _):
        async with one.connected("alice") as phone, two.connected("alice") as laptop, one.connected("bob"):
            assert holders(server) == {"alice": 2, "bob": 1}
            event = {"type": "tick", "data": "x" * 1000}
            before = sent_to_subscribers(server)
            for _ in range(50):
                await api.post("/v1/users/carol/events", json=event)
            heard_of_others = sent_to_subscribers(server) - before
            before = sent_to_subscribers(server)
            await api.post("/v1/users/alice/events", json=event)
            await asyncio.gather(phone.push(), laptop.push())
            assert sent_to_subscribers(server) - before > 2000
            assert heard_of_others < 1000  # the echo of the other node, now and then
        await eventually(lambda: not holders(server))


async def test_a_mode_that_an_operator_sets_on_one_node_holds_on_all_and_on_those_that_start_later(
    stand_alone: StandAlone,
) -> None:
    async with node(stand_alone) as (one, api), node(stand_alone) as (two, other):
        async with one.connected("alice"), two.connected("alice") as laptop, two.connected("bob"):
            await api.put("/v1/users/alice/mode", json={"mode": "emergency"})
            told = (await laptop.push())["message"]["data"]
            assert (told["mode"], told["reason"]) == ("emergency", "operator")
            assert [await mode_of(each, "alice") for each in (api, other)] == ["emergency", "emergency"]
            assert await mode_of(other, "bob") == "unified"
            async with node(stand_alone) as (three, late), three.connected("alice"), three.connected("bob"):
                assert [await mode_of(late, user) for user in ("alice", "bob")] == ["emergency", "unified"]
                await late.put("/v1/users/alice/mode", json={"mode": None})
                assert (await laptop.push())["message"]["data"]["mode"] == "unified"
            async with node(stand_alone) as (four, last), four.connected("alice"):
                assert await mode_of(last, "alice") == "unified"


async def test_connections_that_an_operator_ends_on_one_node_end_on_all(stand_alone: StandAlone) -> None:
    async with node(stand_alone) as (one, api), node(stand_alone) as (two, _):
        async with one.connected("alice") as phone, two.connected("alice") as laptop, two.connected("bob") as bob:
            await api.delete("/v1/users/alice/connections")
            assert [(await each.closed())[0] for each in (phone, laptop)] == [3503, 3503]
            await bob.nothing()


async def test_a_node_that_starts_without_its_broker_is_degraded_and_not_ready_until_it_comes(
    engines: Engines,
) -> None:
    server = engines.stand_alone(lasting=True)
    async with node(server) as (_, api):
        await api.put("/v1/users/bob/mode", json={"mode": "emergency"})
    await asyncio.to_thread(server.kill)
    async with node(server) as (gateway, api), gateway.connected("alice") as alice, gateway.connected("bob") as bob:
        assert (await api.get("/ready")).status_code == 503
        assert await mode_of_all(api) == "degraded"
        receipt = (await api.post("/v1/users/alice/events", json={"type": "tick", "data": 1})).json()
        assert receipt["queued"]
        assert [pub["data"]["data"] for pub in await alice.publications(1)] == [1]
        await asyncio.to_thread(server.start)
        assert (await bob.push())["message"]["data"]["mode"] == "emergency"
        await until(partial(is_ready, api))
        # Its position was never known, so it has to come again; and what waited is there.
        assert (await alice.closed())[0] == 3010
        async with gateway.client() as again:
            result = await again.result("connect", {"token": token("alice"), "subs": {"#alice": {"recover": True}}})
            assert [pub["data"]["data"] for pub in result["subs"]["#alice"]["publications"]] == [1]


async def is_ready(api: httpx.AsyncClient) -> bool:
    return (await api.get("/ready")).status_code == 200


async def mode_of_all(api: httpx.AsyncClient) -> str:
    return str((await api.get("/health")).json()["mode"])
