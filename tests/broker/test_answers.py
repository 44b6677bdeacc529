"""What servers answer, and what this node makes of it."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import pytest
import redis.asyncio

from app.realtime.broker import BrokerError, BrokerUnavailable, UnrecoverablePosition
from tests.broker.engines import Ear, Inbox, attached
from tests.engine.cluster import Cluster
from tests.engine.fixtures import Engines
from tests.engine.server import StandAlone
from tests.gateway import eventually

ALICE, BOB = "user:alice", "user:bob"
SECRET = "s3cr3t"
COMMANDS = (
    "+evalsha",
    "+eval",
    "+script|load",
    "+time",
    "+info",
    "+cluster|info",
    "+config|get",
    "+ping",
    "+spublish",
    "+ssubscribe",
    "+sunsubscribe",
    "+del",
    "+hset",
    "+hget",
    "+hmget",
    "+hgetall",
    "+hdel",
    "+hlen",
    "+hexists",
    "+exists",
    "+pexpire",
    "+xadd",
    "+xlen",
    "+xrange",
    "+xrevrange",
    "+rpush",
    "+lpop",
    "+llen",
    "+lrem",
    "+select",
)


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


async def test_scripts_that_were_flushed_are_loaded_again(stand_alone: StandAlone) -> None:
    ear, inbox = Ear(), Inbox()
    async with attached(stand_alone.url, ear) as broker:
        await broker.subscribe(ALICE, inbox)
        first = await broker.publish(ALICE, "news", "1")
        stand_alone.call("SCRIPT", "FLUSH")
        with pytest.raises(BrokerUnavailable) as lost:
            await broker.publish(ALICE, "news", "2")
        await ear.wait("lost", "restored")
        again = await broker.publish(ALICE, "news", "2", ticket=lost.value.ticket)
        assert (again.epoch, again.offset) == (first.epoch, 2)
        await inbox.wait(2)


async def test_data_that_was_flushed_is_another_epoch(stand_alone: StandAlone) -> None:
    ear, inbox = Ear(), Inbox()
    async with attached(stand_alone.url, ear) as broker:
        await broker.subscribe(ALICE, inbox)
        before = (await broker.publish(ALICE, "news", "1")).position
        stand_alone.call("FLUSHALL")
        after = await broker.publish(ALICE, "news", "2")
        assert after.offset == 1
        assert after.epoch != before.epoch
        with pytest.raises(UnrecoverablePosition):
            await broker.history(ALICE, "news", since=before)
        await inbox.wait(2)
        assert [got.epoch for got in inbox.publications] == [before.epoch, after.epoch]
    assert ear.heard == []


async def test_a_server_without_memory_refuses_and_is_not_lost(
    engines: Engines, caplog: pytest.LogCaptureFixture
) -> None:
    server, ear = engines.stand_alone(), Ear()
    async with attached(server.url, ear) as broker:
        await broker.publish(ALICE, "news", "1")
        server.call("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(BrokerError, match="is full: raise its maxmemory") as refused:
            await broker.publish(ALICE, "news", f'"{SECRET}"')
        assert not isinstance(refused.value, BrokerUnavailable)
        assert SECRET not in f"{refused.value!r} {refused.value.__cause__!r} {refused.value.__context__!r}"
        await asyncio.sleep(0.3)  # checks go on
        assert broker.healthy()
        server.call("CONFIG", "SET", "maxmemory", "0")
        assert (await broker.publish(ALICE, "news", "2")).offset == 2
    assert ear.heard == []
    assert SECRET not in caplog.text


async def test_a_server_that_takes_no_writes_is_lost_once_and_until_it_does(engines: Engines) -> None:
    server, other, ear = engines.stand_alone(), engines.stand_alone(), Ear()
    async with attached(server.url, ear) as broker:
        await asyncio.to_thread(server.call, "REPLICAOF", "127.0.0.1", other.port)
        await ear.wait("lost")
        await asyncio.sleep(1.5)
        assert ear.heard == ["lost"]
        await asyncio.to_thread(server.call, "REPLICAOF", "NO", "ONE")
        await ear.wait("lost", "restored")
        await broker.publish(ALICE, "news", "1")


@pytest.mark.parametrize("missing", ["+time", "+script|load", "+spublish", "+ssubscribe", "+del", "channels", "keys"])
async def test_a_server_that_does_not_allow_what_is_needed_is_not_reached(
    engines: Engines, missing: str, caplog: pytest.LogCaptureFixture
) -> None:
    server, ear = engines.stand_alone(), Ear()
    rules = ["~{p:*", "~{p/*", "&{p:*", "&{p/*", *COMMANDS]
    server.call("ACL", "SETUSER", "node", "on", f">{SECRET}", *(rule for rule in rules if not _is(rule, missing)))
    async with attached(f"redis://node:{SECRET}@{server.address}", ear, prefix="p", timeout=0.3):
        await ear.wait("lost")
        await asyncio.sleep(0.5)
        assert ear.heard == ["lost"]
        server.call("ACL", "SETUSER", "node", *rules)
        await ear.wait("lost", "restored")
    assert SECRET not in caplog.text + "".join(ear.reasons)


def _is(rule: str, missing: str) -> bool:
    return rule == missing or rule[0] == {"channels": "&", "keys": "~"}.get(missing)


async def test_these_rules_of_an_acl_are_enough(engines: Engines) -> None:
    server, ear, inbox = engines.stand_alone(), Ear(), Inbox()
    rules = ("~{p:*", "~{p/*", "&{p:*", "&{p/*", *COMMANDS)
    server.call("ACL", "SETUSER", "node", "on", f">{SECRET}", *rules)
    async with attached(f"redis://node:{SECRET}@{server.address}", ear, prefix="p") as broker:
        await broker.subscribe(ALICE, inbox)
        for number in range(10):
            await broker.publish(ALICE, "news", "1", idempotency_key=str(number))
        await broker.publish(ALICE, "news", "1", ticket="t-1")
        await broker.history(ALICE, "news", limit=2)
        await broker.history(ALICE, "news", reverse=True)
        await broker.add_presence(ALICE, "news", "c", "{}")
        assert await broker.presence(ALICE, "news") == {"c": "{}"}
        broker.remove_presence(ALICE, "news", "c")
        assert await broker.presence(ALICE, "news") == {}
        assert len(await broker.streams(ALICE)) == 1
        await broker.broadcast("hello")
        await broker.store("name", "value")
        assert await broker.stored() == {"name": "value"}
        await broker.store("name", None)
        broker.unsubscribe(ALICE, inbox)
        await broker.history(ALICE, "news")
    assert ear.heard == []
    assert [entry for entry in server.call("ACL", "LOG") if "client|setinfo" not in str(entry)] == []


async def test_a_wrong_password_is_a_lost_server_and_shown_nowhere(
    engines: Engines, caplog: pytest.LogCaptureFixture
) -> None:
    server, ear = engines.stand_alone(), Ear()
    server.call("ACL", "SETUSER", "node", "on", ">other", "~*", "&*", "+@all")
    async with attached(f"redis://node:{SECRET}@{server.address}", ear, timeout=0.3):
        await ear.wait("lost")
        server.call("ACL", "SETUSER", "node", f">{SECRET}")
        await ear.wait("lost", "restored")
    assert ear.reasons == ["AuthenticationError: no connection"]
    assert SECRET not in caplog.text


async def test_tls_with_a_server_that_speaks_none_is_a_lost_server(stand_alone: StandAlone) -> None:
    ear = Ear()
    async with attached(f"rediss://{stand_alone.address}", ear, timeout=0.3):
        await ear.wait("lost")


async def test_a_server_that_is_full_is_a_lost_one(engines: Engines) -> None:
    server, ear = engines.stand_alone(config={"maxclients": "1"}), Ear()
    async with attached(server.url, ear, timeout=0.3) as broker:
        await ear.wait("lost")
        assert not broker.healthy()


async def test_one_server_of_a_cluster_is_no_server_of_its_own(cluster: Cluster) -> None:
    ear, one = Ear(), cluster.masters[0]
    # What all nodes share lies elsewhere: if all that a node uses lay here, it would be none the wiser.
    prefix = next(name for name in map(str, count()) if cluster.master_of(f"{{{name}/nodes}}") is not one)
    async with attached(one.url, ear, timeout=0.5, prefix=prefix):
        await ear.wait("lost")
        await asyncio.sleep(1)
    assert ear.heard == ["lost"]
    assert ear.reasons == ["refused: MovedError"]


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[str]:
    """The URL of a server that answers everything so; or by the end of the connection, if that is empty."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(65536) and answer:
                writer.write(answer)
        except ConnectionError:
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\xff" * 100,
        b":1\r\n" * 20,
        b"$-1\r\n" * 20,
        b"*2\r\n$3\r\n100\r\n$1\r\n5\r\n" * 20,
        b"*3\r\n$8\r\nsmessage\r\n$1\r\nx\r\n:7\r\n" * 20,
        b"+OK\r\n" * 20,
        b"-LOADING the dataset\r\n" * 20,
        b"-ERR s3cr3t\r\n" * 20,
        b"$1000000\r\n",
    ],
)
async def test_a_server_that_answers_nonsense_is_a_lost_one(answer: bytes, caplog: pytest.LogCaptureFixture) -> None:
    ear = Ear()
    async with answering(answer) as url, attached(url, ear, timeout=0.2):
        await ear.wait("lost")
        await asyncio.sleep(0.5)
    assert ear.heard == ["lost"]
    assert SECRET not in caplog.text + "".join(ear.reasons)


@pytest.mark.parametrize(
    "message",
    [
        b"x",
        b"p",
        b"p1 e t",
        b"px e t 1 ab",
        b"p1 e t x ab",
        b"n",
        b"nx {}",
        b"p1 e t 4 \xff\xfe\xfd\xfc{}",
        b"p-1 \xff t 4 news{}",
        b"\x00",
    ],
)
async def test_a_message_that_means_nothing_harms_no_other_and_is_not_repeated_in_the_log(
    valkey_url: str, message: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    ear, alice, bob, prefix = Ear(), Inbox(), Inbox(), f"garbage-{uuid.uuid4()}"
    async with attached(valkey_url, ear, prefix=prefix) as broker, attached(valkey_url, prefix=prefix) as other:
        await broker.subscribe(ALICE, alice)
        await broker.subscribe(BOB, bob)
        async with redis.asyncio.Redis.from_url(valkey_url) as stranger:
            for channel in (f"{{{prefix}:user:alice}}", f"{{{prefix}/nodes}}"):
                assert await stranger.spublish(channel, message + SECRET.encode()) > 0
        await broker.publish(BOB, "news", "1")
        await broker.publish(ALICE, "news", "1")
        await other.broadcast("hello")
        await bob.wait(1)
        await eventually(lambda: any(got.text == '{"data":1,"offset":1}' for got in alice.publications))
        await ear.wait(messages=1)
        assert ear.heard == []
        assert len(bob.publications) == 1
        assert all(got.key == ALICE for got in alice.publications)
    assert SECRET not in caplog.text


async def test_a_subscriber_that_fails_harms_no_other(valkey_url: str, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Inbox):
        def deliver(self, publication: object) -> int:
            raise RuntimeError(SECRET)

    ear, bob = Ear(), Inbox()
    async with attached(valkey_url, ear) as broker:
        await broker.subscribe(ALICE, Failing())
        await broker.subscribe(BOB, bob)
        await broker.publish(ALICE, "news", "1")
        await broker.publish(BOB, "news", "1")
        await bob.wait(1)
    assert ear.heard == []
    assert "RuntimeError" in caplog.text
    assert SECRET not in caplog.text
