"""That the user of `docs/scaling.md` may do what the gateway does, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest
import redis

from app.realtime.broker import Position
from tests.broker.engines import Inbox, redis_broker
from tests.engine.fixtures import Engines
from tests.engine.server import Node

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
USER, PASSWORD = "bulkhead", "the-password"
ALONE = frozenset({"cluster|slots", "command", "asking"})
"""What one server is never asked."""

REDIRECTED = frozenset({"asking"})
"""What is asked while slots are moved alone."""


def lines() -> list[list[str]]:
    """The commands of the page that make the user."""
    text = PAGE.read_text(encoding="utf-8").splitlines()
    return [line.split() for line in text if line.startswith(f"ACL SETUSER {USER} ")]


def allowed() -> set[str]:
    return {word[1:] for line in lines() for word in line if word.startswith("+")}


def make_user(nodes: Iterable[Node]) -> None:
    for node in nodes:
        for line in lines():
            node.call(*line)


def carried_out(nodes: Iterable[Node]) -> set[str]:
    """What servers were asked, by anybody and by scripts."""
    found = (node.call("INFO", "commandstats") for node in nodes)
    return {name.removeprefix("cmdstat_") for each in found for name in each}


async def use_everything(url: str) -> None:
    """Let a broker, with the default prefix, do all that it can."""
    broker, inbox = (
        redis_broker(url, prefix=USER, idempotency_keys_per_user=2, idempotency_ttl=0.5, history_ttl=30),
        Inbox(),
    )
    await broker.start()
    assert broker.healthy()
    for key in ("user:alice", "user:bob", "user:carol"):
        await broker.subscribe(key, inbox)
        for number in ("1", "2", "3", "4"):
            await broker.publish(key, "news", "1", idempotency_key=number)
            await asyncio.sleep(0.3)
        await broker.publish(key, "news", "1", idempotency_key="3")  # which has expired, and the fourth has not
        since = Position(1, "")
        assert (await broker.history(key, "news", since=since)).publications
        assert (await broker.history(key, "news", since=Position(9, ""), reverse=True)).publications
        await broker.add_presence(key, "news", "client", "{}")
        assert await broker.presence(key, "news") == {"client": "{}"}
        broker.remove_presence(key, "news", "client")
        broker.notify(key, "news", "{}")
        assert len(await broker.streams(key)) == 1
        for other in "abcde":  # of six that are allowed
            await broker.history(key, other, limit=0)
        with pytest.raises(Exception, match="6 streams"):
            await broker.history(key, "too-many", limit=0)
    await inbox.wait(18)
    for key in ("user:alice", "user:bob", "user:carol"):
        broker.unsubscribe(key, inbox)
    await broker.broadcast("hello")
    await broker.store("mode", "isolated")
    assert await broker.stored() == {"mode": "isolated"}
    await broker.store("mode", None)
    assert broker.healthy()
    assert broker.statistics.losses == 0
    await broker.close()


async def test_the_user_of_the_page_may_do_all_that_the_gateway_does_on_one_server(engines: Engines) -> None:
    server = engines.stand_alone()
    make_user([server])
    await use_everything(f"redis://{USER}:{PASSWORD}@{server.address}")
    assert server.call("ACL", "LOG") == []
    assert allowed() - ALONE <= carried_out([server]), "more than is needed"


async def test_the_user_of_the_page_may_do_all_that_the_gateway_does_on_a_cluster(engines: Engines) -> None:
    cluster = engines.cluster()
    make_user(cluster.nodes)
    await use_everything(f"redis+cluster://{USER}:{PASSWORD}@{','.join(node.address for node in cluster.nodes)}")
    assert [node.call("ACL", "LOG") for node in cluster.nodes] == [[], [], []]
    assert allowed() - REDIRECTED <= carried_out(cluster.nodes), "more than is needed"


def test_the_user_of_the_page_may_do_nothing_else(engines: Engines) -> None:
    server = engines.stand_alone()
    make_user([server])
    with redis.Redis(port=server.port, username=USER, password=PASSWORD, protocol=2) as client:
        for refused in (
            ("FLUSHALL",),
            ("CONFIG", "SET", "save", ""),
            ("KEYS", "*"),
            ("HGETALL", "other"),
            ("HGETALL", "{bulkhead2:user:alice}:m"),
            ("SPUBLISH", "{other:user:alice}", "x"),
            ("EVAL", "return 1", "0"),
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*refused)
