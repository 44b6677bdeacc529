"""A server with `maxmemory` and `noeviction` that is full: it takes no more, and keeps what it has."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.realtime.broker import BrokerError
from tests.broker.engines import Inbox, attached
from tests.engine.server import StandAlone

pytestmark = pytest.mark.nodes

ALICE = "user:alice"
ROOM = 200_000


@pytest.fixture
def server(server_program: str, tmp_path: Path) -> Iterator[StandAlone]:
    """A server of its own, of Valkey and then of Redis."""
    with StandAlone(server_program, tmp_path / "server", config={"maxmemory-policy": "noeviction"}) as running:
        yield running


def used(server: StandAlone) -> int:
    return int(server.call("INFO", "memory")["used_memory"])


def fill(server: StandAlone) -> None:
    server.call("CONFIG", "SET", "maxmemory", 1)


async def test_streams_that_begin_do_not_go_beyond_its_limit(server: StandAlone) -> None:
    async with attached(server.url) as broker:
        await broker.publish(ALICE, "news", "1")
        limit = used(server) + ROOM
        server.call("CONFIG", "SET", "maxmemory", limit)
        refused = 0
        for number in range(500):
            try:
                await broker.publish(f"user:{number}", "news", f'"{"x" * 2000}"')
            except BrokerError:
                refused += 1
        assert refused > 300
        assert used(server) < limit + ROOM
        fill(server)
        assert (await broker.history(ALICE, "news")).position.offset == 1
        with pytest.raises(BrokerError):
            await broker.history("user:newcomer", "news")


async def test_idempotency_keys_that_have_expired_do_not_let_publishes_pass(server: StandAlone) -> None:
    async with attached(server.url, idempotency_ttl=0.6) as broker:
        await broker.publish(ALICE, "news", "1", idempotency_key="k")
        await asyncio.sleep(0.4)
        first = await broker.publish(ALICE, "news", "1", idempotency_key="younger")
        await asyncio.sleep(0.3)
        fill(server)
        with pytest.raises(BrokerError):
            await broker.publish(ALICE, "news", "2", idempotency_key="k")
        server.call("CONFIG", "SET", "maxmemory", 0)
        again = await broker.publish(ALICE, "news", "2", idempotency_key="k")
        assert (again.duplicate, again.offset) == (False, first.offset + 1)


async def test_positions_and_presence_of_who_is_connected_hold(server: StandAlone) -> None:
    async with attached(server.url, history_ttl=0.9, presence_ttl=0.9, check_interval=5, timeout=5) as broker:
        inbox = Inbox()
        await broker.subscribe(ALICE, inbox)
        before = (await broker.publish(ALICE, "news", "1")).position
        await broker.add_presence(ALICE, "news", "c", "{}")
        fill(server)
        await asyncio.sleep(2.5)
        assert (await broker.history(ALICE, "news", limit=0)).position == before
        assert await broker.presence(ALICE, "news") == {"c": "{}"}
