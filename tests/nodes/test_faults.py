"""One thing goes wrong while users are on two nodes and both publish: what was acknowledged comes once and in order."""

from __future__ import annotations

import asyncio

import pytest

from tests.engine.fixtures import Engines
from tests.nodes.options import TIMEOUT
from tests.nodes.scene import scene

pytestmark = pytest.mark.nodes

SHORT, LONG = TIMEOUT / 2, TIMEOUT * 2


@pytest.mark.parametrize(
    ("fault", "seconds"),
    [
        ("broker killed", LONG),
        ("broker stopped", SHORT),
        ("broker paused", SHORT),
        ("broker paused", LONG),
        ("A cut off", LONG),
        ("A hears silence", SHORT),
        ("A hears silence", LONG),
        ("A's subscriber is silent", SHORT),
        ("A's subscriber is silent", LONG),
        ("A's commands are not answered", LONG),
        ("B stopped", SHORT),
    ],
)
async def test_nobody_misses_anything_of_a_stream_that_outlives_the_fault(
    engines: Engines, fault: str, seconds: float
) -> None:
    async with scene(engines.stand_alone(lasting=True)) as made:
        await made.suffer(fault, seconds)
        found = await made.world.verdict()
        assert not found.violations, found
        assert (found.counts["missed"], found.counts["ended with 3010"]) == (0, 0), found
        assert found.counts["queued"] or seconds == SHORT or "stopped" in fault, found


async def test_whose_stream_is_gone_with_the_server_is_told(engines: Engines) -> None:
    async with scene(engines.stand_alone()) as made:
        await made.suffer("broker killed", SHORT)
        found = await made.world.verdict()
        assert not found.violations, found
        # Once on the personal channel; the other one is subscribed again, which ends no connection.
        assert found.counts["ended with 3010"] == len(made.world.devices), found


@pytest.mark.slow
async def test_a_server_may_stand_still_for_ten_seconds(engines: Engines) -> None:
    async with scene(engines.stand_alone(lasting=True)) as made:
        await made.suffer("broker paused", 10)
        found = await made.world.verdict()
        assert not found.violations, found
        assert found.counts["missed"] == 0, found


async def test_who_was_away_while_a_server_lost_the_last_of_its_data_is_told(engines: Engines) -> None:
    server = engines.stand_alone()
    async with scene(server) as made:
        away = made.world.devices[0]
        away.leave()
        await asyncio.sleep(0.2)
        await asyncio.to_thread(server.call, "SAVE")  # as servers do now and then, unless told otherwise
        await asyncio.sleep(0.5)
        await made.suffer("broker killed", SHORT)
        await asyncio.sleep(1)  # by then there is something else where the last events were
        away.away = False
        found = await made.world.verdict()
        assert not found.violations, found
        assert found.counts["missed"], found
