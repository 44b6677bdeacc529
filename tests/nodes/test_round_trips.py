"""What a publish costs the engine: one round trip, and none for those who get it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.engine.server import StandAlone
from tests.gateway import build_container, serving
from tests.http.modes import publish
from tests.nodes.options import settings

pytestmark = pytest.mark.nodes

EVENTS = 30
CONNECTIONS = 4
OF_THE_TEST = {"info", "config|resetstat", "client|setinfo", "client|setname", "hello", "ping", "select"}

SCRIPT = {"time": 1, "hmget": 1, "xadd": 1, "hset": 1, "pexpire": 2, "spublish": 1}
"""What the script of a publish does, inside the server."""


def commands(server: StandAlone) -> dict[str, int]:
    """How often the server has carried out each command since the last reset, those inside scripts included."""
    found = {
        name.removeprefix("cmdstat_"): int(counts["calls"])
        for name, counts in server.call("INFO", "commandstats").items()
    }
    return {name: calls for name, calls in found.items() if name not in OF_THE_TEST}


async def test_a_publish_is_one_round_trip_and_a_delivery_none(stand_alone: StandAlone) -> None:
    # Nobody is heard to live, or said again, while this is measured.
    options = settings(stand_alone.url, broker={"check_interval": 60, "timeout": 5, "presence_ttl": 300})
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(serving(build_container(**options))) for _ in range(2)]
        api = await stack.enter_async_context(nodes[0].api())
        clients = [
            await stack.enter_async_context(node.connected("alice")) for node in nodes for _ in range(CONNECTIONS)
        ]
        for user, seen_by in (("alice", clients), ("nobody", [])):
            await publish(api, user)  # which begins the stream
            await asyncio.gather(*(client.publications(1) for client in seen_by))
            stand_alone.call("CONFIG", "RESETSTAT")
            for number in range(EVENTS):
                assert (await publish(api, user, data=number)).status_code == 200
            for client in seen_by:
                got = await client.publications(EVENTS)
                assert [publication["data"]["data"] for publication in got] == list(range(EVENTS))
            expected = {name: calls * EVENTS for name, calls in SCRIPT.items()}
            assert commands(stand_alone) == {"evalsha": EVENTS, **expected}
