"""What `broker.url` may say."""

from __future__ import annotations

import pytest

from app.realtime.redis import UnknownServers, servers
from tests.broker.engines import Ear, Inbox, attached
from tests.engine.fixtures import Engines

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "rediss://h:1/2",
        "valkey://h",
        "valkeys://h?ssl_cert_reqs=none",
        "unix:///run/valkey.sock?db=3",
        f"redis://user:{SECRET}@h",
        "redis+cluster://h1,h2:7001,[::1]:7002",
        f"valkeys+cluster://user:{SECRET}@h1:1,h2:2?client_name=bulkhead",
        "redis+cluster://h?socket_timeout=3&health_check_interval=5",
        "redis+sentinel://h1,h2/main",
        f"valkey+sentinel://:{SECRET}@h1,h2:26380/main/3",
    ],
)
async def test_an_address_is_understood(url: str) -> None:
    await servers(url, 1).close()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "no engine"),
        (f"http://user:{SECRET}@h", "no engine"),
        (f"redis+ring://{SECRET}@h", "no engine"),
        (f"redis://user:{SECRET}@h:port", "understands"),
        (f"redis://user:{SECRET}@h:70000", "understands"),
        (f"redis://{SECRET}@h?no_such_option={SECRET}", "understands"),
        (f"rediss://:{SECRET}@h?ssl_cert_reqs=whatever", "understands"),
        (f"redis+cluster://user:{SECRET}@", "no host"),
        (f"redis+cluster://user:{SECRET}@h1,,h2", "no host"),
        (f"redis+cluster://user:pa#{SECRET}@h", "a port is no number"),
        (f"redis+cluster://user:{SECRET}#pa@h", "a port is no number"),
        (f"redis+cluster://user:{SECRET}@[::1", "bracket"),
        (f"redis+cluster://user:{SECRET}@h?no_such_option={SECRET}", "understands"),
        (f"redis+sentinel://user:{SECRET}@h:port/main", "a port is no number"),
        (f"redis+sentinel://user:{SECRET}@h", "master's name"),
        (f"redis+sentinel://user:{SECRET}@h/main/{SECRET}", "database"),
    ],
)
def test_an_address_that_says_nothing_is_refused_and_its_password_not_repeated(url: str, why: str) -> None:
    with pytest.raises(UnknownServers, match=why) as refused:
        servers(url, 1)
    shown = f"{refused.value!r} {refused.value} {refused.value.why} {refused.value.__cause__}"
    assert SECRET not in shown
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.mark.parametrize("query", ["protocol=3", "decode_responses=1", "encoding=utf-16", "retry_on_timeout=1"])
async def test_the_query_does_not_change_what_the_broker_relies_on(valkey_url: str, query: str) -> None:
    ear, inbox = Ear(), Inbox()
    async with attached(f"{valkey_url}?{query}", ear) as broker:
        assert broker.healthy()
        await broker.subscribe("user:alice", inbox)
        await broker.publish("user:alice", "news", '"ü"')
        await inbox.wait(1)
    assert ear.heard == []


async def test_a_server_is_reached_with_user_and_password(engines: Engines) -> None:
    server = engines.stand_alone()
    server.call("ACL", "SETUSER", "gateway", "on", f">{SECRET}", "~*", "&*", "+@all")
    async with attached(f"valkey://gateway:{SECRET}@{server.address}/2") as broker:
        await broker.publish("user:alice", "news", "1")
    assert list(server.call("INFO", "keyspace")) == ["db2"]


async def test_a_server_is_reached_over_a_unix_socket(
    engines: Engines, tmp_path_factory: pytest.TempPathFactory
) -> None:
    socket = tmp_path_factory.mktemp("s") / "s"
    engines.stand_alone(config={"unixsocket": str(socket)})
    async with attached(f"unix://{socket}") as broker:
        assert (await broker.publish("user:alice", "news", "1")).offset == 1


async def test_a_cluster_is_reached_with_a_password(engines: Engines) -> None:
    cluster = engines.cluster()
    for node in cluster.nodes:
        node.call("ACL", "SETUSER", "gateway", "on", f">{SECRET}", "~*", "&*", "+@all")
        node.call("ACL", "SETUSER", "stranger", "on", f">{SECRET}", "~*", "&*", "-@all")
    hosts = cluster.url.partition("://")[2]
    async with attached(f"redis+cluster://gateway:{SECRET}@{hosts}", timeout=2) as broker:
        assert {(await broker.publish(f"user:{number}", "news", "1")).offset for number in range(20)} == {1}
    ear = Ear()
    async with attached(f"redis+cluster://gateway:wrong@{hosts}", ear, timeout=2):
        await ear.wait("lost")


async def test_the_database_behind_sentinels_is_the_one_named(engines: Engines) -> None:
    sentinel = engines.sentinel(sentinels=1)
    async with attached(f"{sentinel.url.removesuffix('/0')}/3", timeout=2) as broker:
        await broker.publish("user:alice", "news", "1")
    assert list(sentinel.master.call("INFO", "keyspace")) == ["db3"]


async def test_gateways_with_a_database_each_hear_nothing_of_each_other(engines: Engines) -> None:
    server = engines.stand_alone()
    here, there, inbox, other = Ear(), Ear(), Inbox(), Inbox()
    async with (
        attached(f"{server.url}/0", here, prefix="same") as first,
        attached(f"{server.url}/1", there, prefix="same") as second,
    ):
        await first.subscribe("user:alice", inbox)
        await second.subscribe("user:alice", other)
        await first.broadcast("to the first gateway's nodes")
        first.notify("user:alice", "news", "{}")
        await first.publish("user:alice", "news", "1")
        await second.publish("user:alice", "news", "2")
        await inbox.wait(2)
        await other.wait(1)
        assert [got.text for got in inbox.publications] == ['{"data":1,"offset":1}']
        assert [got.text for got in other.publications] == ['{"data":2,"offset":1}']
        assert (other.pushes, there.messages) == ([], [])
