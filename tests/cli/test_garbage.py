"""Cycles of references do not pile up while the gateway serves."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Iterator

import pytest

from app import garbage
from app.listening import listen
from app.protocols import HttpProtocol
from app.server import Server
from app.testing import gateway_container
from tests.cli.test_server import Echo, forever
from tests.gateway import eventually, serving

FOUND = "searched for cycles of references"


class Cycle:
    """Is gone only when the collector has found it."""

    def __init__(self, size: int) -> None:
        self.itself = self
        self.content = b"x" * size


@pytest.fixture
def without_thresholds() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_thresholds")
async def test_cycles_are_searched_for_when_memory_has_grown_and_not_before(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(garbage, "REST_SECONDS", 0.1)
    monkeypatch.setattr(garbage, "GROWTH", 1.05)
    caplog.set_level(logging.INFO)
    server = Server(Echo().app, gateway_container().settings(), forever)
    with listen("127.0.0.1", 0) as listener:
        serving = asyncio.create_task(server.serve([listener]))
        await eventually(lambda: server.started)
        small = weakref.ref(Cycle(1000))
        await asyncio.sleep(0.5)
        assert small() is not None
        large = weakref.ref(Cycle(2 * garbage.LEAST_BYTES))
        await eventually(lambda: small() is None and large() is None)
        assert caplog.messages.count(FOUND) == 1
        await asyncio.sleep(0.5)
        assert caplog.messages.count(FOUND) == 1
        server.should_exit = server.force_exit = True
        await serving


@pytest.mark.usefixtures("without_thresholds")
async def test_a_websocket_keeps_nothing_of_the_request_that_it_began_with() -> None:
    async with serving() as gateway, gateway.connected("alice"):
        assert not [each for each in gc.get_objects() if isinstance(each, HttpProtocol)]
