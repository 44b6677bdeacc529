"""A replica takes over, with or without all that was acknowledged; and keys move within a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from tests.engine.cluster import Cluster
from tests.engine.fixtures import Engines
from tests.engine.server import Node, cut_off, wait_until
from tests.gateway import eventually
from tests.nodes.ledger import Owner
from tests.nodes.node import LocalNode
from tests.nodes.world import World, world

pytestmark = pytest.mark.nodes

ALICE = "{bulkhead:user:alice}"
"""What the slot of her keys is computed from."""


async def fail_over(made: World, master: Node, replica: Node, took_over: Callable[[], object], *, lossy: bool) -> None:
    """Kill a master; before, if some of what it acknowledged is to be lost, keep its replica from getting it."""
    acknowledged = 0
    if lossy:
        await asyncio.to_thread(cut_off, master, replica)
        before = sum(event.acknowledged for event in made.ledger)
        await eventually(lambda: sum(event.acknowledged for event in made.ledger) >= before + 20)
        acknowledged = replication(master, "master_repl_offset")
    await asyncio.to_thread(master.kill)
    if lossy:
        await asyncio.to_thread(replica.resume)
    await asyncio.to_thread(took_over)
    if lossy:
        assert replication(replica, "second_repl_offset") - 1 < acknowledged, "nothing was lost, so this shows nothing"


def replication(node: Node, name: str) -> int:
    """One of the numbers of `INFO replication`."""
    return int(node.call("INFO", "replication")[name])


def nodes(url: str) -> Sequence[LocalNode]:
    return LocalNode("A", url), LocalNode("B", url)


@pytest.mark.parametrize("lossy", [False, True], ids=["all is replicated", "some is not"])
async def test_behind_sentinels_clients_are_told_when_another_master_takes_over(engines: Engines, lossy: bool) -> None:
    servers = engines.sentinel()
    async with world(nodes(servers.url)) as made:
        await asyncio.sleep(0.2)
        await fail_over(
            made,
            servers.master,
            servers.replica,
            lambda: servers.wait_until_serving(servers.replica),
            lossy=lossy,
        )
        found = await made.verdict()
        assert not found.violations, found
        assert found.counts["ended with 3010"] == len(made.devices), found


@pytest.mark.slow
@pytest.mark.parametrize("lossy", [False, True], ids=["all is replicated", "some is not"])
async def test_in_a_cluster_the_users_of_a_lost_master_are_told(engines: Engines, lossy: bool) -> None:
    servers = engines.cluster(replicas=True)
    owners = [Owner(f"user{number}") for number in range(6)]
    async with world(nodes(servers.url), owners) as made:
        master = servers.master_of("{bulkhead:user:user0}")
        hit = {owner for owner in owners if servers.master_of(f"{{bulkhead:user:{owner.user}}}") is master}
        replica = servers.replicas[servers.masters.index(master)]
        await asyncio.sleep(0.2)
        await fail_over(
            made,
            master,
            replica,
            lambda: servers.wait_until_moved("{bulkhead:user:user0}", replica),
            lossy=lossy,
        )
        found = await made.verdict()
        assert not found.violations, found
        assert {device.owner for device in made.devices if device.ends[3010]} == hit, found
        assert hit != set(owners)


def move(servers: Cluster, key: str) -> Node:
    """Move the slot of a key to another master, key by key, as an operator would; that one."""
    source = servers.master_of(key)
    target = servers.masters[servers.masters.index(source) - 1]
    slot = source.call("CLUSTER", "KEYSLOT", key)
    names = {node: str(node.call("CLUSTER", "MYID")) for node in (source, target)}
    target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
    source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
    while keys := source.call("CLUSTER", "GETKEYSINSLOT", slot, 2):
        source.call("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
    for node in (target, source, *(other for other in servers.masters if other not in (source, target))):
        node.call("CLUSTER", "SETSLOT", slot, "NODE", names[target])
    wait_until(lambda: servers.master_of(key) is target, lambda: "the slot did not move")
    return target


async def test_who_is_in_a_slot_that_moves_while_they_are_published_to_misses_nothing_untold(engines: Engines) -> None:
    servers = engines.cluster()
    async with world(nodes(servers.url)) as made:
        targets = []
        for _ in range(2):
            await asyncio.sleep(0.3)
            targets.append(await asyncio.to_thread(move, servers, ALICE))
        await asyncio.sleep(0.3)
        found = await made.verdict()
        assert not found.violations, found
        # A master that takes a slot over gets a new config epoch, as it does when it takes a lost master's place.
        told = {device.owner.user for device in made.devices if device.ends[3010]}
        assert all(servers.master_of(f"{{bulkhead:user:{user}}}") in targets for user in told), found
        assert "alice" in told
