"""Whether a stream goes on when its server starts again: only where nothing that it acknowledged can be missing."""

from __future__ import annotations

import asyncio

import pytest

from app.realtime.broker import Position, UnrecoverablePosition
from tests.broker.engines import Ear, attached
from tests.engine.fixtures import Engines
from tests.engine.server import StandAlone

ALICE = "user:alice"


async def position_after_a_restart(server: StandAlone) -> tuple[Position, Position]:
    """Of a stream before, and after its server was killed and started again with what it had written down."""
    async with attached(server.url, Ear(), prefix="p") as broker:
        before = (await broker.publish(ALICE, "news", "1")).position
        await asyncio.to_thread(server.call, "SAVE")
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    async with attached(server.url, Ear(), prefix="p") as broker:
        after = (await broker.history(ALICE, "news", limit=0)).position
        if after != before:
            with pytest.raises(UnrecoverablePosition):
                await broker.history(ALICE, "news", since=before)
            assert await broker.streams(ALICE)  # the new one alone counts
    return before, after


async def test_a_stream_outlives_a_server_that_writes_each_command_down_first(engines: Engines) -> None:
    before, after = await position_after_a_restart(engines.stand_alone(lasting=True))
    assert after == before


@pytest.mark.parametrize("config", [{}, {"appendonly": "yes", "appendfsync": "everysec"}], ids=["snapshots", "log"])
async def test_a_stream_begins_anew_on_a_server_that_may_have_lost_the_last_of_it(
    engines: Engines, config: dict[str, str]
) -> None:
    before, after = await position_after_a_restart(engines.stand_alone(config=config))
    assert (before.offset, after.offset) == (1, 0)
    assert after.epoch != before.epoch


async def test_a_server_that_tells_nothing_about_itself_serves(engines: Engines) -> None:
    server = engines.stand_alone()
    server.call("ACL", "SETUSER", "default", "-info", "-config")
    async with attached(server.url, Ear(), prefix="p") as broker:
        assert (await broker.publish(ALICE, "news", "1")).offset == 1
