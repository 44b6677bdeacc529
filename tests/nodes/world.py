"""Nodes, users with devices on several of them, and publishers on all of them."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import httpx

from tests.gateway import API_KEY
from tests.nodes.device import Device, staying
from tests.nodes.judge import Verdict, judge
from tests.nodes.ledger import Event, Ledger, Owner, Stream
from tests.nodes.node import Node
from tests.nodes.publisher import Publisher

OWNERS = (Owner("alice"), Owner("bob"), Owner("carol", "phone"), Owner("carol", "desk"))
"""Two unified users, and one isolated user with two sessions."""

NEWS = "news"
"""The channel to which devices subscribe by themselves."""

SECONDS = 25.0


class World:
    """What runs while faults come and go.

    Args:
        nodes: that users are on; those that run.
        owners: whose streams there are.
        devices: of each owner, on one node after the other.
    """

    def __init__(self, nodes: Sequence[Node], owners: Sequence[Owner] = OWNERS, devices: int = 2) -> None:
        """Nothing happens yet."""
        self.nodes = tuple(nodes)
        self.ledger = Ledger()
        self.streams = tuple(Stream(owner, channel) for owner in owners for channel in (owner.personal, NEWS))
        self.devices = tuple(
            Device(f"{owner.user}{owner.session}{number}", owner, self._addresses, number + turn, [NEWS])
            for turn, owner in enumerate(owners)
            for number in range(devices)
        )
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # empty: TLS is not spoken here
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        headers = {"X-API-Key": API_KEY}
        self.client = httpx.AsyncClient(headers=headers, timeout=SECONDS, verify=tls, limits=limits)
        self.publishers = tuple(
            Publisher(self.ledger, (node, *(other for other in nodes if other is not node)), self.client)
            for node in nodes
        )
        self._going = True
        self._publishing: list[asyncio.Task[None]] = []

    def _addresses(self) -> list[str]:
        return [node.url for node in self.nodes]

    def life_of(self, name: str) -> int:
        """How often the node of this name was started."""
        return next(node.life for node in self.nodes if node.name == name)

    async def settle(self) -> None:
        """Wait until every node is ready, and every device is connected and gets what is published.

        Raises:
            AssertionError: that does not come about.
        """
        deadline = time.monotonic() + SECONDS
        for node in self.nodes:
            await until(partial(self.is_ready, node))
        while not (all(device.settled for device in self.devices) and await self._all_see()):
            assert time.monotonic() < deadline, f"not settled: {[each for each in self.devices if not each.settled]}"
            await asyncio.sleep(0.02)

    async def is_ready(self, node: Node) -> bool:
        """What a load balancer asks."""
        try:
            return bool(node.url) and (await self.client.get(f"{node.url}/ready")).status_code == 200
        except httpx.TransportError:
            return False

    async def _all_see(self) -> bool:
        """Publish an event to each stream, on every node behind what waits there; whether all devices get them soon."""
        publishing = (publisher.publish(stream) for publisher in self.publishers for stream in self.streams)
        events = await asyncio.gather(*publishing)
        for _ in range(50):
            await asyncio.sleep(0.02)
            if all(self._sees(device, events) for device in self.devices):
                return True
        return False

    @staticmethod
    def _sees(device: Device, events: Sequence[Event]) -> bool:
        places = {Stream(device.owner, name): place for name, place in device.places.items()}
        return all(event.name in places[event.stream].names for event in events if event.stream in places)

    async def verdict(self) -> Verdict:
        """Let the publishers come to an end, wait until all is well, and judge.

        Raises:
            AssertionError: it does not become well.
        """
        self._going = False
        await asyncio.gather(*self._publishing)
        try:
            await self.settle()
        except AssertionError as error:
            found = judge(self.ledger, self.devices, self.life_of)
            raise AssertionError(f"{error}\n{found}") from None
        return judge(self.ledger, self.devices, self.life_of)

    def start(self) -> None:
        """Let publishers publish, until `verdict`."""
        self._publishing = [
            asyncio.create_task(each.run(self.streams, lambda: self._going)) for each in self.publishers
        ]

    async def stop(self) -> None:
        """End whatever runs."""
        self._going = False
        for task in self._publishing:
            task.cancel()
        await asyncio.gather(*self._publishing, return_exceptions=True)


@asynccontextmanager
async def world(nodes: Sequence[Node], owners: Sequence[Owner] = OWNERS, devices: int = 2) -> AsyncIterator[World]:
    """A world that is well and in which everybody publishes. At the end of the block the nodes stop."""
    async with AsyncExitStack() as stack:
        made = World(nodes, owners, devices)
        await stack.enter_async_context(made.client)
        for node in nodes:
            stack.push_async_callback(node.stop)
            await node.start()
        running = [asyncio.create_task(staying(device)) for device in made.devices]
        try:
            await made.settle()
            made.start()
            yield made
        finally:
            await made.stop()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what has to be asked for.

    Raises:
        AssertionError: it does not come about.
    """
    deadline = time.monotonic() + SECONDS
    while not await condition():
        assert time.monotonic() < deadline, f"not so within {SECONDS} s: {condition}"
        await asyncio.sleep(0.02)
