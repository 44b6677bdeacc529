"""Whether a stream goes on on a server: only where nothing that was acknowledged can be missing there."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from app.realtime.broker import BrokerUnavailable, Position, UnrecoverablePosition
from app.realtime.redis.broker import RedisBroker
from tests.broker.engines import Ear, attached
from tests.engine.fixtures import Engines
from tests.engine.server import LASTING, Node, StandAlone, cut_off, wait_until
from tests.line import line_to

ALICE = "user:alice"
SLOT = "{p:user:alice}"
"""What the slot of her keys is computed from."""


async def position_after_a_restart(server: StandAlone) -> tuple[Position, Position]:
    """Of a stream before, and after its server was killed and started again with what it had written down."""
    async with attached(server.url, Ear(), prefix="p", timeout=5) as broker:
        before = (await broker.publish(ALICE, "news", "1")).position
        await asyncio.to_thread(server.call, "SAVE")
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    async with attached(server.url, Ear(), prefix="p", timeout=5) as broker:
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
    async with attached(server.url, Ear(), prefix="p", timeout=5) as broker:
        assert (await broker.publish(ALICE, "news", "1")).offset == 1


async def publish(broker: RedisBroker, *texts: str) -> Position:
    """Publish, again and again while the engine is not to be used; the last position."""

    async def one(text: str) -> Position:
        async with asyncio.timeout(20):
            while True:
                with suppress(BrokerUnavailable):
                    return (await broker.publish(ALICE, "news", text)).position
                await asyncio.sleep(0.05)

    return [await one(text) for text in texts][-1]


def follows(node: Node, master: Node) -> bool:
    """Whether a server is the replica of another one, with all that it has."""
    role = node.call("ROLE")
    return bool(role[0] == "slave" and role[2] == master.port and role[3] == "connected")


def follow(node: Node, master: Node) -> None:
    """Wait until a server is the replica of another one, with all that it has."""
    wait_until(lambda: follows(node, master), lambda: f"{node.address} does not follow: {node.call('ROLE')}")


async def begins_anew(broker: RedisBroker, lost: Position) -> None:
    """Assert that who knows an acknowledged position that is lost is told so, and gets nothing else in its place."""
    after = await publish(broker, '"new"', '"new"', '"new"')
    assert (after.offset, after.epoch != lost.epoch) == (3, True)
    with pytest.raises(UnrecoverablePosition):
        await broker.history(ALICE, "news", since=lost)


@pytest.mark.nodes
@pytest.mark.parametrize("config", [LASTING, {}], ids=["writes all down", "does not"])
@pytest.mark.parametrize("dies", [True, False], ids=["killed", "paused"])
async def test_streams_begin_anew_on_a_master_of_a_cluster_that_comes_back_after_its_replica(
    engines: Engines, dies: bool, config: dict[str, str]
) -> None:
    servers = engines.cluster(replicas=True, config=config)
    master = servers.master_of(SLOT)
    replica = servers.replicas[servers.masters.index(master)]
    async with attached(servers.url, Ear(), prefix="p", timeout=1) as broker:
        await publish(broker, *"12345")
        await asyncio.to_thread(cut_off, master, replica)
        lost = await publish(broker, *"67")
        (master.kill if dies else master.pause)()
        replica.resume()
        await asyncio.to_thread(servers.wait_until_moved, SLOT, replica)
        (master.start if dies else master.resume)()
        await asyncio.to_thread(follow, master, replica)
        master.call("CLUSTER", "FAILOVER")
        await asyncio.to_thread(servers.wait_until_moved, SLOT, master)
        await asyncio.to_thread(follow, replica, master)
        await begins_anew(broker, lost)


@pytest.mark.nodes
async def test_streams_begin_anew_on_a_master_behind_sentinels_that_comes_back_after_its_replica(
    engines: Engines,
) -> None:
    servers = engines.sentinel(config=LASTING)
    master, replica = servers.master, servers.replica
    async with attached(servers.url, Ear(), prefix="p", timeout=1) as broker:
        await publish(broker, *"12345")
        await asyncio.to_thread(cut_off, master, replica)
        lost = await publish(broker, *"67")
        master.kill()
        replica.resume()
        await asyncio.to_thread(servers.wait_until_serving, replica)
        master.start()
        master.call("REPLICAOF", "127.0.0.1", replica.port)  # as the sentinel would say after a while
        # It may also put it back by itself, as it had lost sight of the replica.
        await asyncio.to_thread(
            wait_until,
            lambda: follows(master, replica) or master.call("ROLE")[0] == "master",
            lambda: f"{master.call('ROLE')}",
        )
        if follows(master, replica):
            replica.pause()
        await asyncio.to_thread(servers.wait_until_serving, master)
        await begins_anew(broker, lost)


@pytest.mark.nodes
async def test_streams_begin_anew_behind_an_address_that_leads_to_the_replica_now(engines: Engines) -> None:
    master, replica = engines.stand_alone(lasting=True), engines.stand_alone(lasting=True)
    replica.call("REPLICAOF", "127.0.0.1", master.port)
    await asyncio.to_thread(follow, replica, master)
    async with (
        line_to(master.port) as line,
        attached(f"redis://127.0.0.1:{line.port}", ear := Ear(), prefix="p") as broker,
    ):
        await publish(broker, *"12345")
        await asyncio.to_thread(cut_off, master, replica)
        lost = await publish(broker, *"67")
        master.kill()
        replica.resume()
        replica.call("REPLICAOF", "NO", "ONE")
        line.lead_to(replica.port)
        await ear.wait("lost", "restored")
        await begins_anew(broker, lost)


@pytest.mark.nodes
async def test_a_cluster_that_comes_back_under_other_addresses_is_found_by_the_one_that_was_given(
    engines: Engines,
) -> None:
    before, after = engines.cluster(), engines.cluster()
    async with (
        line_to(before.masters[0].port) as line,
        attached(f"redis+cluster://127.0.0.1:{line.port}", ear := Ear(), prefix="p") as broker,
    ):
        await publish(broker, "1")
        for node in before.nodes:
            node.kill()
        line.lead_to(after.masters[0].port)
        await ear.wait("lost", "restored")
        await publish(broker, "2")
