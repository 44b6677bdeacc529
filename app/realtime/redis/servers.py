"""Where the servers are, and which of them holds what."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol
from urllib.parse import urlsplit

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

Command = list[Any]
Connect = Callable[[], AbstractConnection]

PORT, SENTINEL_PORT = 6379, 26379
OF_ONE_SERVER = frozenset({"host", "db", "himport_registry"})
SCHEME = re.compile(r"(?P<engine>redis|valkey)(?P<tls>s?)(?:\+(?P<several>cluster|sentinel))?|unix")


class UnknownServers(ValueError):
    """The address does not say where servers are. Carries no part of it that could be a password."""

    def __init__(self, why: str) -> None:
        """Keep the reason."""
        super().__init__(f"broker.url: {why}")
        self.why = why


class Servers(Protocol):
    """Servers that take writes, each by a name.

    The name also says whose data a stream is: a stream that another server wrote begins anew, as nobody can know
    whether an asynchronous replica, promoted to master, has all of it.
    """

    async def discover(self) -> Mapping[str, Connect]:
        """Look where they are now; for each, what makes a connection to it that is not open yet.

        Raises:
            redis.RedisError, OSError: they cannot be asked.
        """

    def locate(self, key: str) -> str:
        """Name of the server that holds a key, as `discover` or a redirection last saw it."""

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
            servers.
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
    hosts, path, pool = _several(base, rest, timeout)
    if several == "cluster":
        return Cluster([_host(each, PORT) for each in hosts], pool)
    master, _, database = path.partition("/")
    if not master:
        raise UnknownServers("a sentinel needs the master's name: redis+sentinel://host:port/master")
    if database.isdigit():
        pool.connection_kwargs["db"] = int(database)
    return BehindSentinel([_host(each, SENTINEL_PORT) for each in hosts], master, pool)


def _several(scheme: str, rest: str, timeout: float) -> tuple[list[str], str, ConnectionPool]:
    """Hosts, path, and a pool that knows all the rest of how to connect."""
    parts = urlsplit(f"{scheme}://{rest}")
    login, at, hosts = parts.netloc.rpartition("@")
    if not hosts:
        raise UnknownServers("names no host")
    return hosts.split(","), parts.path.strip("/"), _pool(f"{scheme}://{login}{at}host?{parts.query}", timeout)


def _pool(url: str, timeout: float) -> ConnectionPool:
    options = _options(timeout)
    if url.startswith("unix://"):
        del options["socket_keepalive"]  # which is TCP's
    try:
        return ConnectionPool.from_url(url, **options)
    except ValueError:
        raise UnknownServers("is not an address that redis-py understands") from None


def _options(timeout: float) -> dict[str, Any]:
    # Nothing is done twice behind our back: what to do about an error, only the broker knows. RESP2, in which what is
    # published is read as any reply.
    return {"protocol": 2, "socket_connect_timeout": timeout, "retry": Retry(NoBackoff(), 0), "socket_keepalive": True}


def _host(text: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise UnknownServers("names no host")
    return parts.hostname, parts.port or port


class StandAlone:
    """One server, whatever process answers at its address."""

    def __init__(self, url: str, timeout: float) -> None:
        """Read the address."""
        self._pool = _pool(url, timeout)

    async def discover(self) -> Mapping[str, Connect]:
        """See `Servers`."""
        return {"": self._pool.make_connection}

    def locate(self, key: str) -> str:
        """See `Servers`."""
        return ""

    async def redirect(self, command: Command) -> Any:
        """Not called: one server never refuses a command so."""
        raise NotImplementedError

    async def close(self) -> None:
        """See `Servers`."""


class BehindSentinel:
    """The master that sentinels name."""

    def __init__(self, hosts: list[tuple[str, int]], master: str, pool: ConnectionPool) -> None:
        """Not connected yet."""
        timeout = pool.connection_kwargs["socket_connect_timeout"]
        self._sentinel = Sentinel(  # type: ignore[no-untyped-call]
            hosts, sentinel_kwargs={"socket_connect_timeout": timeout, "socket_timeout": timeout}
        )
        self._master = master
        self._pool = pool
        self._name = ""

    async def discover(self) -> Mapping[str, Connect]:
        """See `Servers`."""
        host, port = await self._sentinel.discover_master(self._master)
        self._name = f"{host}:{port}"
        return {self._name: _connect(self._pool, host, port)}

    def locate(self, key: str) -> str:
        """See `Servers`."""
        return self._name

    async def redirect(self, command: Command) -> Any:
        """Not called: one master never refuses a command so."""
        raise NotImplementedError

    async def close(self) -> None:
        """See `Servers`."""
        for sentinel in self._sentinel.sentinels:
            await sentinel.aclose()


class Cluster:
    """The masters of a cluster."""

    def __init__(self, hosts: list[tuple[str, int]], pool: ConnectionPool) -> None:
        """Not connected yet."""
        nodes = [ClusterNode(host, port) for host, port in hosts]
        options = {key: value for key, value in pool.connection_kwargs.items() if key not in OF_ONE_SERVER}
        self._pool = pool
        self._client = RedisCluster(
            startup_nodes=nodes,
            ssl=issubclass(pool.connection_class, SSLConnection),
            socket_timeout=pool.connection_kwargs["socket_connect_timeout"],
            **options,
        )

    async def discover(self) -> Mapping[str, Connect]:
        """See `Servers`."""
        await self._client.aclose()
        await self._client.initialize()
        return {
            node.name: _connect(self._pool, str(node.host), int(node.port)) for node in self._client.get_primaries()
        }

    def locate(self, key: str) -> str:
        """See `Servers`."""
        node = self._client.get_node_from_key(key)
        return "" if node is None else str(node.name)

    async def redirect(self, command: Command) -> Any:
        """See `Servers`."""
        return await self._client.execute_command(*command)

    async def close(self) -> None:
        """See `Servers`."""
        await self._client.aclose()


def _connect(pool: ConnectionPool, host: str, port: int) -> Connect:
    return partial(pool.connection_class, **{**pool.connection_kwargs, "host": host, "port": port})
