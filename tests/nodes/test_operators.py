"""What operators set holds on all nodes, whatever happens to the engine and whoever is first."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from functools import partial

import httpx
import pytest

from tests.engine.fixtures import Engines
from tests.engine.server import StandAlone
from tests.gateway import build_container, serving
from tests.http.modes import set_mode
from tests.nodes.options import settings
from tests.nodes.world import until

pytestmark = pytest.mark.nodes


async def has_mode(api: httpx.AsyncClient, mode: str) -> bool:
    return bool((await api.get("/health")).json()["mode"] == mode)


async def is_ready(api: httpx.AsyncClient) -> bool:
    return (await api.get("/ready")).status_code == 200


async def test_a_new_node_that_finds_the_engine_empty_before_the_others_do_changes_nothing(engines: Engines) -> None:
    server = engines.stand_alone()
    options = settings(server.url, broker={"check_interval": 1, "timeout": 2})
    async with serving(build_container(**options)) as a, a.api() as api:
        await set_mode(api, "emergency")
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        async with serving(build_container(**options)) as b, b.api() as other:
            assert await has_mode(other, "unified")
            await until(partial(is_ready, api))
            for each in (api, other):
                await until(partial(has_mode, each, "emergency"))
            async with serving(build_container(**options)) as c, c.api() as late:
                assert await has_mode(late, "emergency")


async def test_operators_who_set_a_mode_on_two_nodes_at_the_same_moment_leave_all_nodes_with_one(
    stand_alone: StandAlone,
) -> None:
    async with AsyncExitStack() as stack:
        gateways = [
            await stack.enter_async_context(serving(build_container(**settings(stand_alone.url)))) for _ in range(3)
        ]
        apis = [await stack.enter_async_context(gateway.api()) for gateway in gateways]
        alices = [await stack.enter_async_context(gateway.connected("alice")) for gateway in gateways]
        stored = ""
        for _ in range(20):
            await asyncio.gather(set_mode(apis[0], "emergency"), set_mode(apis[1], "degraded"))
            stored = json.loads(stand_alone.call("HGET", "{bulkhead/nodes}:v", "mode"))["kind"]
            for api in apis:
                await until(partial(has_mode, api, stored))
        for alice in alices:  # who was told of every change, and of the last one last
            told = [push["message"]["data"]["mode"] for push in await alice.arrived()]
            assert told[-1] == stored
