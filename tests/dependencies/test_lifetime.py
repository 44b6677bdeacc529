"""A manager is held for a request or a connection, and let go after, however that ends.

The garbage collector is off: nothing may wait for it. So is logging, because pytest keeps what is logged, the frames of
tracebacks included.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.dependencies.application import Site, receive
from tests.gateway import eventually


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    logging.disable()
    yield
    logging.disable(logging.NOTSET)
    gc.enable()


async def gone(site: Site, *, collect: bool = False) -> None:
    """Wait until no manager lives.

    Args:
        collect: anyio keeps the exception in a cycle with the frames of its traceback, so the collector must run.
    """
    await asyncio.sleep(0.02)
    if collect:
        gc.collect()
    await eventually(lambda: site.container.manager.count() == 0)
    assert [reference() for reference in site.probe.managers] == [None] * len(site.probe.managers)
    assert len(site.container.lifecycle()) == 0


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/parts", 200),
        ("/parts-in-a-thread", 200),
        ("/raise", 500),
        ("/raise-in-a-thread", 500),
        ("/refuse", 422),
    ],
)
async def test_after_a_request_the_manager_is_gone(path: str, status: int) -> None:
    async with Site.running() as site, site.http() as http:
        for _ in range(3):
            assert (await http.get(path)).status_code == status
        assert len(site.probe.managers) == 3
        await gone(site, collect=path == "/raise-in-a-thread")


@pytest.mark.parametrize("path", ["/wait", "/wait-in-a-thread"])
async def test_while_a_request_runs_the_manager_stays(path: str) -> None:
    async with Site.running() as site, site.http() as http:
        request = asyncio.create_task(http.get(path))
        await site.probe.entered(1)
        assert site.container.manager.count() == 1
        site.probe.gate.set()
        assert (await request).status_code == 200
        await gone(site)


async def test_after_a_client_went_away_in_the_middle_the_manager_is_gone_with_the_request() -> None:
    async with Site.running() as site, site.http() as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.get("/wait", timeout=0.1)
        await site.probe.entered(1)
        site.probe.gate.set()  # the server does not interrupt an endpoint because nobody listens
        await gone(site)


async def test_a_streaming_response_holds_the_manager_until_its_end() -> None:
    async with Site.running() as site, site.http() as http:
        async with http.stream("GET", "/stream") as response:
            lines = response.aiter_lines()
            assert await anext(lines) == "user:alice"
            await site.probe.entered(1)
            assert site.container.manager.count() == 1
            site.probe.gate.set()
            assert await anext(lines) == "user:alice"
        await gone(site)


async def test_a_streaming_response_that_its_client_leaves_is_cancelled_and_lets_the_manager_go() -> None:
    async with Site.running() as site:
        async with site.http() as http, http.stream("GET", "/stream") as response:
            assert await anext(response.aiter_lines()) == "user:alice"
            await site.probe.entered(1)
        async with asyncio.timeout(5):
            await site.probe.cancelled.wait()
        await gone(site, collect=True)


async def test_a_background_task_holds_the_manager_until_its_end() -> None:
    async with Site.running() as site, site.http() as http:
        assert (await http.get("/later")).status_code == 200
        await site.probe.entered(1)
        assert site.container.manager.count() == 1
        site.probe.gate.set()
        await gone(site)
        (stream,) = await site.container.broker().streams("user:alice")
        assert stream.position.offset == 1


@pytest.mark.parametrize("last", ["end", "raise", "leave", "abort"])
async def test_after_a_websocket_however_it_ends_the_manager_is_gone(last: str) -> None:
    async with Site.running() as site:
        async with site.socket() as socket:
            await receive(socket)
            assert site.container.manager.count() == 1
            match last:
                case "abort":
                    socket.transport.abort()
                case "leave":
                    await socket.close()
                case _:
                    await socket.send(last)
                    with pytest.raises(ConnectionClosed):
                        await receive(socket)
        await gone(site)


async def test_a_request_that_is_cancelled_because_the_server_stops_lets_the_manager_go() -> None:
    async with Site.running(shutdown={"drain_seconds": 0, "grace_seconds": 5}) as site:
        http = site.http()
        request = asyncio.create_task(http.get("/wait"))
        await site.probe.entered(1)
    assert site.probe.cancelled.is_set()
    await gone(site)
    request.cancel()
    await asyncio.wait((request,))
    await http.aclose()
