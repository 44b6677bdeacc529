"""A user who comes back at the same moment loses nothing, gets nothing twice, and finds one manager."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from functools import partial
from typing import Any

import pytest

from app.realtime.broker import Broker
from app.realtime.memory import MemoryBroker
from containers import GatewayContainer
from tests.gateway import RunningGateway, build_container, eventually, serving, token
from tests.realtime.peer import Peer
from tests.wire.faulty import make_faulty

CHANNEL = "#alice"
TOKEN = token("alice")


class Device:
    """What a device knows across its connections: what it got, and the position up to which it did."""

    def __init__(self) -> None:
        """Got nothing; it wants everything from the beginning."""
        self.got: list[int] = []
        self.rounds = 0
        self._epoch = ""
        self._offset = 0

    @property
    def subs(self) -> dict[str, Any]:
        """What it asks for in `connect`."""
        return {CHANNEL: {"recover": True, "epoch": self._epoch, "offset": self._offset}}

    def connected(self, result: dict[str, Any]) -> None:
        """Take the answer to `connect`."""
        sub = result["subs"][CHANNEL]
        assert sub["recovered"] is True, sub
        assert not self._epoch or sub["epoch"] == self._epoch
        self._epoch = sub["epoch"]
        self.rounds += 1
        self.take(sub.get("publications", ()))

    def take(self, publications: Iterable[dict[str, Any]]) -> None:
        """Take publications, each right behind the one before."""
        for publication in publications:
            assert publication["offset"] == self._offset + 1, "lost, twice or out of order"
            self._offset = publication["offset"]
            self.got.append(publication["data"]["data"])


def assert_one_at_a_time(container: GatewayContainer) -> int:
    """No manager of alice began before the last one had ended; how many there were."""
    events = container.lifecycle().events(1_000_000)
    lives = [one.event for one in events if one.key == "user:alice" and one.event in ("created", "closed")]
    assert lives == ["created", "closed"] * (len(lives) // 2)
    return len(lives) // 2


def assert_nothing_left(container: GatewayContainer, broker: Broker) -> None:
    assert isinstance(broker, MemoryBroker)
    assert container.manager.count() == len(container.lifecycle()) == 0
    assert container.publisher().connected("alice") == []
    assert (broker.stats().subscribers, broker.stats().presences) == (0, 0)


@pytest.mark.parametrize("slow", [False, True], ids=["memory broker", "slow broker"])
async def test_two_devices_come_and_go_thousands_of_times_while_events_flow(
    slow: bool, no_garbage_collection: None
) -> None:
    container = build_container(history={"size": 100_000}, lifecycle={"events": 100_000})
    broker = container.broker()
    chance, rounds, devices = random.Random(7), 2000, [Device(), Device()]
    if slow:
        # Before a position is read, and between its reading and its answer, events come: they are held and merged.
        faulty, fault = make_faulty(container), partial(linger, chance)
        faulty.before["history"] = faulty.after["history"] = faulty.after["add_presence"] = fault
    published = 0
    done = False

    async def publish() -> None:
        nonlocal published
        while not done:
            await container.publisher().publish_to_user("alice", "tick", published)
            published += 1
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)

    async def use(device: Device) -> None:
        for _ in range(rounds):
            async with Peer(container) as peer:
                device.connected(await peer.connect("alice", subs=device.subs))
                for _ in range(chance.randrange(3)):
                    await asyncio.sleep(0)
                assert len(container.lifecycle().living()) == 1
                device.take(peer.pushes("pub"))
                assert peer.close_code is None, "it was sent away instead of served"
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)

    publishing = asyncio.create_task(publish())
    await asyncio.gather(*(use(device) for device in devices))
    done = True
    await publishing
    for device in devices:
        await catch_up(container, device)
    await asyncio.sleep(0)
    assert all(device.got == list(range(published)) for device in devices)
    assert all(device.rounds == rounds + 1 for device in devices)
    assert published > rounds
    assert assert_one_at_a_time(container) > rounds / 10
    assert_nothing_left(container, broker)


async def test_the_last_device_leaves_and_the_next_comes_in_the_same_turn_of_the_loop(
    no_garbage_collection: None,
) -> None:
    container = build_container(history={"size": 10_000}, lifecycle={"events": 100_000})
    device, rounds = Device(), 1000
    peer = await Peer(container).__aenter__()
    device.connected(await peer.connect("alice", subs=device.subs))
    for number in range(rounds):
        await container.publisher().publish_to_user("alice", "tick", number)
        # What is on its way when the network goes is not with the client: it asks for it again.
        peer.leave()
        peer = await Peer(container).__aenter__()
        device.connected(await peer.connect("alice", subs=device.subs))
    peer.leave()
    del peer
    await asyncio.sleep(0)
    assert device.got == list(range(rounds))
    assert assert_one_at_a_time(container) == rounds + 1
    assert_nothing_left(container, container.broker())


async def linger(chance: random.Random) -> None:
    """Take some turns of the event loop."""
    for _ in range(chance.randrange(6)):
        await asyncio.sleep(0)


async def catch_up(container: GatewayContainer, device: Device) -> None:
    """Connect once more."""
    async with Peer(container) as peer:
        device.connected(await peer.connect("alice", subs=device.subs))


async def visit(gateway: RunningGateway, device: Device, chance: random.Random) -> None:
    """Connect, read some, and go, politely or by pulling the plug."""
    async with gateway.client(max_queue=None) as client:  # reads on while it closes
        device.connected(await client.result("connect", {"token": TOKEN, "subs": device.subs}))
        for _ in range(chance.randrange(4)):
            device.take([(await client.push())["pub"]])
        if chance.random() < 0.5:
            client.socket.transport.abort()


async def test_two_devices_come_and_go_over_real_sockets_while_events_flow() -> None:
    container = build_container(history={"size": 100_000}, lifecycle={"events": 100_000})
    chance, rounds, devices = random.Random(11), 150, [Device(), Device()]
    published = 0
    done = False
    async with serving(container) as gateway:

        async def publish() -> None:
            nonlocal published
            while not done:
                await container.publisher().publish_to_user("alice", "tick", published)
                published += 1
                await asyncio.sleep(0.0005)

        async def use(device: Device) -> None:
            for _ in range(rounds):
                await visit(gateway, device, chance)
                assert container.manager.count() <= 1

        publishing = asyncio.create_task(publish())
        await asyncio.gather(*(use(device) for device in devices))
        done = True
        await publishing
        for device in devices:
            async with gateway.client() as client:
                device.connected(await client.result("connect", {"token": TOKEN, "subs": device.subs}))
            assert device.got == list(range(published))
        await eventually(lambda: not container.manager.count())
        assert_one_at_a_time(container)
        assert_nothing_left(container, container.broker())
