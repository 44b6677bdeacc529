"""What `broker.url` may say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import quote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from app.realtime.redis import UnknownServers, servers
from tests.broker.engines import Ear, Inbox, attached
from tests.conftest import require
from tests.engine.fixtures import Engines
from tests.engine.programs import REDIS, redis_server
from tests.engine.server import Node, StandAlone
from tests.ports import free_port

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
        f"valkeys+sentinel://h/main?sentinel_username=u&sentinel_password={SECRET}&ssl_cert_reqs=none&client_name=b",
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
        (f"redis+sentinel://h/main?sentinel_secret={SECRET}", "understands"),
        (f"redis+cluster://h?sentinel_password={SECRET}", "understands"),
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


@pytest.mark.parametrize("login", ["sentinel_password={}", "sentinel_username=node&sentinel_password={}"])
async def test_sentinels_are_asked_with_a_login_of_their_own(login: str, engines: Engines) -> None:
    secret = "a/b?c@d+e&f%g #h"
    sentinel = engines.sentinel(sentinels=1)
    sentinel.master.call("ACL", "SETUSER", "data", "on", f">{SECRET}", "~*", "&*", "+@all")
    asked = sentinel.sentinels[0]
    asked.call("ACL", "SETUSER", "node", "reset", "on", f">{secret}", "+sentinel|masters")
    asked.call("ACL", "SETUSER", "default", "resetpass", f">{secret}")  # as `requirepass` does
    url = sentinel.url.replace("://", f"://data:{SECRET}@")
    async with attached(f"{url}?client_name=b&{login.format(quote(secret, safe=''))}", timeout=2) as broker:
        assert (await broker.publish("user:alice", "news", "1")).offset == 1
    for wrong in ("", "?sentinel_password=wrong"):
        ear = Ear()
        async with attached(f"{url}{wrong}", ear, timeout=1):
            await ear.wait("lost")


async def test_sentinels_and_servers_are_reached_over_tls(tmp_path: Path) -> None:
    program = require(redis_server(), REDIS)
    ports = free_port(), free_port()
    cert = certificate(tmp_path)
    tls = {
        "tls-cert-file": str(cert),
        "tls-key-file": str(cert),
        "tls-ca-cert-file": str(cert),
        "tls-auth-clients": "no",
    }
    watching = {"bind": "127.0.0.1", "tls-replication": "yes", "sentinel": f"monitor main 127.0.0.1 {ports[0]} 1"}
    with (
        StandAlone(program, tmp_path / "master", config={**tls, "tls-port": str(ports[0])}),
        Node(program, tmp_path / "sentinel", {**tls, **watching, "tls-port": str(ports[1])}, "--sentinel"),
    ):
        url = f"://127.0.0.1:{ports[1]}/main?ssl_ca_certs={cert}"
        async with attached(f"rediss+sentinel{url}", timeout=2) as broker:
            assert (await broker.publish("user:alice", "news", "1")).offset == 1


def certificate(folder: Path) -> Path:
    """A file with a certificate of 127.0.0.1, which it signs itself, and the key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "engine")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(hours=1)
        )
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    path = folder / "engine.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(made.public_bytes(Encoding.PEM) + secret)
    return path


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
