"""What operators set holds on all nodes, whatever happens to the engine and whoever is first."""

from __future__ import annotations

import asyncio
from functools import partial

import httpx
import pytest

from tests.engine.fixtures import Engines
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
