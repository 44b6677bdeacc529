"""Nodes that end as processes: stopped by an operator, or killed."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from tests.engine.fixtures import Engines
from tests.gateway import RunningGateway, eventually, token
from tests.nodes.device import Device
from tests.nodes.scene import scene
from tests.nodes.world import until

pytestmark = pytest.mark.nodes


async def is_alone(gateway: RunningGateway, device: Device, before: str) -> bool:
    """Whether a device is present as the client that it is, and no more as the one that it was before."""
    owner = device.owner
    async with gateway.client() as client:
        await client.result("connect", {"token": token(owner.user, **owner.claims)})
        found = (await client.result("presence", {"channel": owner.personal}))["presence"]
        return device.client in found and before not in found


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_who_was_on_a_node_that_ends_goes_on_elsewhere_and_misses_nothing(
    engines: Engines, tmp_path: Path, how: str
) -> None:
    async with scene(engines.stand_alone(lasting=True), tmp_path) as made:
        there = [device for device in made.world.devices if device.node % 3 == 2]
        left = {device: device.client for device in there}
        assert {device.owner.user for device in there} == {"bob", "carol"}
        await made.faults[f"C {how}"].strike()
        await eventually(lambda: all(device.settled and device.client != left[device] for device in there))
        for device in there:
            await until(partial(is_alone, made.a.gateway, device, left[device]))
        await made.faults[f"C {how}"].heal()
        found = await made.world.verdict()
        assert not found.violations, found
        assert (found.counts["missed"], found.counts["again"], found.counts["died"]) == (0, 0, 0), found
        assert all(device.ends == {(3001 if how == "stopped" else 1006): 1} for device in there)


async def test_what_waits_on_a_node_goes_out_before_it_stops(engines: Engines, tmp_path: Path) -> None:
    async with scene(engines.stand_alone(lasting=True), tmp_path) as made:
        await made.faults["broker killed"].strike()
        await asyncio.sleep(1)
        await made.faults["broker killed"].heal()
        await until(partial(made.world.is_ready, made.world.nodes[2]))
        await made.faults["C stopped"].strike()  # in the middle of its flush
        await made.faults["C stopped"].heal()
        found = await made.world.verdict()
        assert not found.violations, found
        assert found.counts["died"] == 0, found
