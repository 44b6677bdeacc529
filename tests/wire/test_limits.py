"""Clients that ask for too much, or take too little."""

from __future__ import annotations

import asyncio
import socket
import time

from tests.clock import ManualClock
from tests.gateway import QUIET, RunningGateway, build_container, eventually, serving, token

EVENT_BYTES = 60_000


async def test_commands_beyond_the_burst_are_closed_with_3013() -> None:
    container = build_container(clock=ManualClock(), limits={"commands_per_second": 10, "command_burst": 20})
    async with serving(container) as gateway, gateway.connected("alice") as client:
        for _ in range(19):
            await client.result("presence_stats", {"channel": "news"})
        await client.send({"id": 99, "presence_stats": {"channel": "news"}})
        assert await client.closed() == (3013, "too many requests")


async def test_the_rate_of_commands_is_refilled_as_time_passes() -> None:
    clock = ManualClock()
    container = build_container(clock=clock, ping=QUIET, limits={"commands_per_second": 10, "command_burst": 20})
    async with serving(container) as gateway, gateway.connected("alice") as client:
        for _ in range(5):
            for _ in range(10):
                await client.result("presence_stats", {"channel": "news"})
            clock.advance(1)
        clock.advance(1000)
        for _ in range(20):
            await client.result("presence_stats", {"channel": "news"})
        await client.send({"id": 99, "presence_stats": {"channel": "news"}})
        assert (await client.closed())[0] == 3013


async def test_messages_without_a_reply_count_too_and_many_in_one_frame_as_well() -> None:
    limits = {"commands_per_second": 10, "command_burst": 20}
    async with serving(build_container(clock=ManualClock(), limits=limits)) as gateway:
        async with gateway.connected("alice") as client, gateway.connected("alice") as other:
            await client.send(*[{"send": {"data": 1}}] * 20)
            assert (await client.closed())[0] == 3013
            await other.nothing()


def narrow_socket(port: int) -> socket.socket:
    """A connected socket that takes little before it is read."""
    connecting = socket.socket()
    connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connecting.connect(("127.0.0.1", port))
    connecting.setblocking(False)
    return connecting


async def flood(gateway: RunningGateway, count: int) -> float:
    """Publish large events to alice; the longest that one publish took, in seconds."""
    slowest = 0.0
    for number in range(count):
        begun = time.monotonic()
        await gateway.container.publisher().publish_to_user("alice", "large", {"n": number, "x": "x" * EVENT_BYTES})
        slowest = max(slowest, time.monotonic() - begun)
    return slowest


async def test_a_client_that_does_not_read_is_closed_with_3008_and_nobody_waits_for_it() -> None:
    container = build_container(limits={"queue_bytes": 256 * 1024}, history={"size": 10, "ttl": 60})
    async with serving(container) as gateway:
        sock = narrow_socket(gateway.port)
        async with (
            gateway.client(sock=sock, max_queue=1) as slow,
            gateway.connected("alice") as reader,
            gateway.connected("bob") as bob,
        ):
            await slow.result("connect", {"token": token("alice")})
            (manager,) = [one for one in container.lifecycle().living() if one.key == "user:alice"]
            reading = asyncio.create_task(reader.publications(200))
            slowest = await flood(gateway, 200)
            begun = time.monotonic()
            await gateway.container.publisher().publish_to_user("bob", "note", 1)
            await bob.push()
            assert time.monotonic() - begun < 1
            assert slowest < 1
            publications = await reading
            assert [publication["offset"] for publication in publications] == list(range(1, 201))
            assert len(manager.connections) == 1, "it left its manager although its socket is still open"
            kept = [frame async for frame in slow.frames()]
            assert await slow.closed() == (3008, "slow")
            assert sum(map(len, kept)) < 200 * EVENT_BYTES, "not all of it was kept for a client that did not read"


async def test_a_client_that_never_reads_nor_closes_is_dropped_in_the_end() -> None:
    clock = ManualClock()
    container = build_container(
        clock=clock, ping=QUIET, limits={"queue_bytes": 256 * 1024}, history={"size": 10, "ttl": 60}
    )
    async with serving(container) as gateway:
        tasks = len(asyncio.all_tasks())
        async with gateway.client(sock=narrow_socket(gateway.port), max_queue=1, close_timeout=0.1) as slow:
            await slow.result("connect", {"token": token("alice")})
            await flood(gateway, 120)
            await eventually(lambda: container.manager.count() == 0)
            clock.advance(10)
            await eventually(lambda: len(asyncio.all_tasks()) <= tasks + 2)


async def test_a_recovery_larger_than_the_queue_is_told_and_not_sent() -> None:
    container = build_container(limits={"queue_bytes": 256 * 1024})
    async with serving(container) as gateway, gateway.client() as client:
        await flood(gateway, 5)
        subs = {"#alice": {"recover": True}}
        result = await client.result("connect", {"token": token("alice"), "subs": subs})
        assert "recovered" not in result["subs"]["#alice"]
        assert result["subs"]["#alice"]["offset"] == 5
        await client.nothing()


async def test_a_publisher_that_never_waits_does_not_make_clients_that_read_look_slow() -> None:
    async with serving(build_container(history={"size": 10, "ttl": 60})) as gateway:
        async with gateway.connected("alice") as client:
            reading = asyncio.create_task(client.publications(100))
            await flood(gateway, 100)
            assert [publication["offset"] for publication in await reading] == list(range(1, 101))
