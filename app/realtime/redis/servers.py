"""Where the servers are, and which of them holds what."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

Command = list[Any]
Connect = Callable[[], AbstractConnection]

PORT, SENTINEL_PORT = 6379, 26379
SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
OF_ONE_SERVER = frozenset({"host", "db", "himport_registry", "socket_timeout", "retry_on_timeout"})
SCHEME = re.compile(r"(?P<engine>redis|valkey)(?P<tls>s?)(?:\+(?P<several>cluster|sentinel))?|unix")


class UnknownServers(ValueError):
    """The address does not say where servers are. Carries no part of it that could be a password."""

    def __init__(self, why: str) -> None:
        """Keep the reason."""
        super().__init__(f"broker.url: {why}")
        self.why = why


class Servers(Protocol):
    """Servers that take writes, each by a name.

    The name also says whose data a stream is (`Lane.lineage`): a stream that another server wrote begins anew, as
    nobody can know whether an asynchronous replica, promoted to master, has all of it.
    """

    @property
    def database(self) -> int:
        """Number of the database that the keys lie in. Pub/sub channels lie in none: all see those of all."""

    async def discover(self) -> Mapping[str, Connect]:
        """Look where they are now; for each, what makes a connection to it that is not open yet.

        Raises:
            redis.RedisError, OSError: they cannot be asked.
        """

    def locate(self, key: str) -> str:
        """Name of the server that holds a key, as `discover` or a redirection last saw it; empty: none is known."""

    async def redirect(self, command: Command) -> Any:
        """Carry out a command that a server refused because another one holds its keys.

        Raises:
            redis.RedisError, OSError: it was not carried out, or its fate is unknown.
        """

    async def close(self) -> None:
        """Let go of what discovery needs."""


def servers(url: str, timeout: float) -> Servers:
    """The servers of an address.

    Args:
        url: `redis://` or `unix://` for one server; `redis+cluster://host:port,host:port`;
            `redis+sentinel://host:port,host:port/master/database`. With TLS it begins with `rediss`; `valkey` and
            `valkeys` say the same. User, password and the query are as redis-py reads them, and those of the data
            servers; `sentinel_username` and `sentinel_password` in the query are those of the sentinels. TLS is for
            both.
        timeout: seconds for a connection to open.

    Raises:
        UnknownServers: it is none of these.
    """
    scheme, _, rest = url.partition("://")
    found = SCHEME.fullmatch(scheme)
    if found is None:
        raise UnknownServers("no engine of this kind; use memory://, redis://, valkey:// or unix://")
    if scheme == "unix":
        return StandAlone(url, timeout)
    base, several = f"redis{found['tls']}", found["several"]
    if several is None:
        return StandAlone(f"{base}://{rest}", timeout)
    if several == "cluster":
        hosts, _, pool = _several(base, rest, timeout)
        return Cluster([_host(each, PORT) for each in hosts], pool)
    rest, login = _of_sentinels(rest)
    hosts, path, pool = _several(base, rest, timeout)
    master, _, database = path.partition("/")
    if not master:
        raise UnknownServers("a sentinel needs the master's name: redis+sentinel://host:port/master")
    if database:
        if not database.isdecimal():
            raise UnknownServers("the database behind the master's name is no number")
        pool.connection_kwargs["db"] = int(database)
    return BehindSentinel([_host(each, SENTINEL_PORT) for each in hosts], master, pool, login)


def _of_sentinels(rest: str) -> tuple[str, dict[str, str]]:
    """The address without the options that are of sentinels alone, and these."""
    place, _, query = rest.partition("?")
    options = parse_qsl(query, keep_blank_values=True)
    login = {name.removeprefix("sentinel_"): value for name, value in options if name in SENTINEL_OPTIONS}
    return f"{place}?{urlencode([each for each in options if each[0] not in SENTINEL_OPTIONS])}", login


def _several(scheme: str, rest: str, timeout: float) -> tuple[list[str], str, ConnectionPool]:
    """Hosts, path, and a pool that knows all the rest of how to connect."""
    try:
        parts = urlsplit(f"{scheme}://{rest}")
    except ValueError:
        raise UnknownServers("has a bracket that is not of an IPv6 address") from None
    login, at, hosts = parts.netloc.rpartition("@")
    if not hosts:
        raise UnknownServers("names no host")
    return hosts.split(","), parts.path.strip("/"), _pool(f"{scheme}://{login}{at}host?{parts.query}", timeout)


def _pool(url: str, timeout: float) -> ConnectionPool:
    options = _options(timeout)
    if url.startswith("unix://"):
        del options["socket_keepalive"]  # which is TCP's
    try:
        pool = ConnectionPool.from_url(url, **options)
        pool.connection_kwargs.update(options)  # the query has no say in these
        pool.make_connection()  # type: ignore[no-untyped-call] # not opened: an unknown option is found here
    except (ValueError, TypeError, RedisError):
        raise UnknownServers("is not an address that redis-py understands") from None
    return pool


def _options(timeout: float) -> dict[str, Any]:
    return {
        # What is published is read as any reply, and all of it is bytes.
        "protocol": 2,
        "decode_responses": False,
        "encoding": "utf-8",
        # Nothing is done twice behind our back: what to do about an error, only the broker knows. It also has an eye
        # on the time, as `asyncio.wait_for`, which redis-py would do it with, may swallow a cancellation (until 3.12).
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "health_check_interval": 0,
        "socket_timeout": None,
        "socket_connect_timeout": timeout,
        "socket_keepalive": True,
    }


def _host(text: str, port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        found = parts.hostname, parts.port or port
    except ValueError:
        # Its text may be a part of a password, with a character in it that has to be percent-encoded.
        raise UnknownServers("a port is no number; in a password, percent-encode / ? # and @") from None
    if not found[0]:
        raise UnknownServers("names no host")
    return found[0], found[1]


class StandAlone:
    """One server, whatever process answers at its address."""

    def __init__(self, url: str, timeout: float) -> None:
        """Read the address."""
        self._pool = _pool(url, timeout)
        self.database = int(self._pool.connection_kwargs.get("db") or 0)

    async def discover(self) -> Mapping[str, Connect]:
        """See `Servers`."""
        return {"": self._pool.make_connection}

    def locate(self, key: str) -> str:
        """See `Servers`."""
        return ""

    async def redirect(self, command: Command) -> Any:
        """Nobody else is known: it is a server of a cluster, and its address should say so."""
        raise RedisError("the address is that of a cluster")

    async def close(self) -> None:
        """See `Servers`."""


class BehindSentinel:
    """The master that sentinels name; `login` is theirs, and TLS is as `pool` has it."""

    def __init__(
        self, hosts: list[tuple[str, int]], master: str, pool: ConnectionPool, login: Mapping[str, str]
    ) -> None:
        """Not connected yet."""
        timeout = pool.connection_kwargs["socket_connect_timeout"]
        options = {name: value for name, value in pool.connection_kwargs.items() if name.startswith("ssl_")}
        options |= {"ssl": issubclass(pool.connection_class, SSLConnection), **login}
        self._sentinel = Sentinel(  # type: ignore[no-untyped-call]
            hosts, sentinel_kwargs={"socket_connect_timeout": timeout, "socket_timeout": timeout, **options}
        )
        self._master = master
        self._pool = pool
        self.database = int(pool.connection_kwargs.get("db") or 0)
        self._name = ""

    async def discover(self) -> Mapping[str, Connect]:
        """See `Servers`."""
        await self._sentinel.discover_master(self._master)
        # It put the sentinel that knows first. With each failover the epoch is a new one: a master that comes back
        # after another is not taken for the one it was.
        masters: Any = await self._sentinel.sentinels[0].sentinel_masters()
        state = masters[self._master]
        host, port = state["ip"], state["port"]
        self._name = f"{host}:{port}/{state['config-epoch']}"
        return {self._name: _connect(self._pool, host, port)}

    def locate(self, key: str) -> str:
        """See `Servers`."""
        return self._name

    async def redirect(self, command: Command) -> Any:
        """Nobody else is known: the master is a server of a cluster, and has no sentinels."""
        raise RedisError("the address is that of a cluster")

    async def close(self) -> None:
        """See `Servers`."""
        for sentinel in self._sentinel.sentinels:
            await sentinel.aclose()


class Cluster:
    """The masters of a cluster."""

    database = 0

    def __init__(self, hosts: list[tuple[str, int]], pool: ConnectionPool) -> None:
        """Not connected yet."""
        nodes = [ClusterNode(host, port) for host, port in hosts]
        options = {key: value for key, value in pool.connection_kwargs.items() if key not in OF_ONE_SERVER}
        self._pool = pool
        self._client = RedisCluster(
            startup_nodes=nodes,
            ssl=issubclass(pool.connection_class, SSLConnection),
            socket_timeout=pool.connection_kwargs["socket_connect_timeout"],
            dynamic_startup_nodes=False,  # or the addresses it was given are forgotten, and may be all that is left
            **options,
        )

    async def discover(self) -> Mapping[str, Connect]:
        """See `Servers`."""
        try:
            await self._client.aclose()
            await self._client.initialize()
        except RedisClusterException as error:  # which is no RedisError
            raise RedisError(str(error)) from None
        return {
            node.name: _connect(self._pool, str(node.host), int(node.port)) for node in self._client.get_primaries()
        }

    def locate(self, key: str) -> str:
        """See `Servers`."""
        try:
            node = self._client.get_node_from_key(key)
        except RedisClusterException:
            return ""
        return "" if node is None else str(node.name)

    async def redirect(self, command: Command) -> Any:
        """See `Servers`."""
        try:
            return await self._client.execute_command(*command)
        except RedisClusterException as error:
            raise RedisError(str(error)) from None

    async def close(self) -> None:
        """See `Servers`."""
        await self._client.aclose()


def _connect(pool: ConnectionPool, host: str, port: int) -> Connect:
    return partial(pool.connection_class, **{**pool.connection_kwargs, "host": host, "port": port})
