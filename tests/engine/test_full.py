"""A server with `maxmemory` and `noeviction` that is full: it takes no more, and keeps what it has."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.realtime.broker import BrokerError
from tests.broker.engines import Inbox, attached
from tests.engine.server import StandAlone
from tests.gateway import build_container, serving

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


async def test_who_asks_is_told_that_it_is_full_and_what_to_do(
    server: StandAlone, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(build_container(broker={"url": server.url})) as gateway, gateway.api() as api:
        async with gateway.connected("alice") as alice:
            fill(server)
            for path in ("/v1/users/alice/events", "/v1/users/newcomer/events"):
                response = await api.post(path, json={"type": "news", "data": "swordfish"})
                assert (response.status_code, response.headers["retry-after"]) == (503, "1")
                assert response.json()["type"] == "urn:bulkhead:problem:broker-full"
                assert "maxmemory" in response.json()["detail"]
                assert "swordfish" not in response.text
            error = await alice.error("publish", {"channel": "news", "data": "swordfish"})
            assert error == {"code": 100, "message": "internal server error", "temporary": True}
        assert (await api.get("/ready")).status_code == 200
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


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
