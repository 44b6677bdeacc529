"""The nets against leaks hold what they promise over an engine of several nodes, too."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

import pytest

from app.realtime.modes import ModeKind
from app.realtime.redis.scripts import Scripts
from providers import prove
from tests.engine.fixtures import Engines
from tests.gateway import build_container, eventually, serving
from tests.isolation.actions import Action
from tests.isolation.model import world
from tests.isolation.soak import soak

pytestmark = pytest.mark.nodes


@pytest.mark.timeout(60)
async def test_the_end_and_the_restart_of_the_engine_give_nobody_what_is_anothers(engines: Engines) -> None:
    server = engines.stand_alone()
    async with world(4, 1, server.url) as made:
        await soak(made, 3, random.Random(1), 4, 1, server)
        await made.together([Action("publish", (0, 0, None, 3, 10)), Action("crash_engine", (server,))])
        await made.everybody()
    assert made.violations == []
    assert made.tally["action crash_engine"] > 0
    assert all(device.canaries > 0 for device in made.devices.values())


async def test_an_engine_in_which_users_share_a_name_would_be_found_out(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scripts, "base", lambda self, key: "{everybody}")
    async with world(2, 1, engines.stand_alone().url) as made:
        for place in made.devices:
            await made.connect(*place)
            await made.subscribe(*place, "news")
        for user in range(2):
            await made.publish(user, 0, "news", 1, 0)
        await made.look()
        assert any("got what is" in violation for violation in made.violations), made.violations


async def test_the_proof_and_the_audit_find_nothing_wherever_the_engine_is(engines: Engines) -> None:
    server = engines.stand_alone()
    container = build_container(broker={"url": server.url, "timeout": 0.5, "check_interval": 0.1})
    assert prove(container, probes=container.probes()).ok
    async with serving(container) as gateway, gateway.api() as api, AsyncExitStack() as stack:
        for number in range(20):
            client = await stack.enter_async_context(gateway.connected(f"user-{number}", channels=["news"]))
            await client.result("subscribe", {"channel": "room"})

        async def nothing_is_shared() -> None:
            publisher = container.publisher()
            calls = [publisher.publish_to_user(f"user-{number}", "tick", number) for number in range(20)]
            publishing = asyncio.gather(*calls)
            for _ in range(2):  # under way, and done
                report = (await api.post("/v1/isolation/audit")).json()
                assert (report["managers"], report["truncated"]) == (20, False)
                assert (report["shared"], report["weak"], report["unread"]) == ([], [], [])
                await publishing

        def degraded() -> bool:
            return ModeKind.DEGRADED in container.policy().incidents

        await nothing_is_shared()
        server.kill()
        await nothing_is_shared()
        await eventually(degraded)
        await nothing_is_shared()
        await asyncio.to_thread(server.start)
        await eventually(lambda: not degraded() and container.backlog().size == 0)
        assert container.metrics().violation_count() == 0
    assert prove(container, probes=container.probes()).ok
