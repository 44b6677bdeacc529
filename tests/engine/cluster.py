"""A cluster of three masters, each with a replica if wanted."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import redis

from tests.engine.server import EVERY_SERVER, Node, wait_until
from tests.ports import free_port

MASTERS = 3
SLOTS = 16384


class Cluster:
    """Servers in cluster mode, which `with` starts and joins.

    Args:
        program: path of the server.
        folder: of all its servers' folders.
        replicas: each master has one, which takes over within about two seconds of a failure.
        config: further lines of every configuration file, by name.
    """

    def __init__(
        self, program: str, folder: Path, *, replicas: bool = False, config: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Nothing runs yet."""
        lines = {
            **EVERY_SERVER,
            "cluster-enabled": "yes",
            "cluster-node-timeout": "800",
            "cluster-replica-validity-factor": "0",
            "repl-diskless-sync-delay": "0",
            "repl-ping-replica-period": "1",
            **config,
        }
        self.masters = tuple(self._node(program, folder / f"master-{number}", lines) for number in range(MASTERS))
        self.replicas = tuple(
            self._node(program, folder / f"replica-{number}", lines) for number in range(MASTERS if replicas else 0)
        )
        self._stack = ExitStack()

    @staticmethod
    def _node(program: str, folder: Path, lines: Mapping[str, str]) -> Node:
        # By default the bus takes the port 10,000 above, which may be somebody's.
        return Node(program, folder, {**lines, "cluster-port": str(free_port())})

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Masters, then their replicas in the same order."""
        return (*self.masters, *self.replicas)

    @property
    def url(self) -> str:
        """For `broker.url`."""
        return f"redis+cluster://{','.join(node.address for node in self.nodes)}"

    def master_of(self, key: str) -> Node:
        """The server that has the slot of a key now, as those see it that answer."""
        slot = int(redis.cluster.key_slot(key.encode()))  # type: ignore[attr-defined]
        for first, last, (_, port, *_), *_ in self._answering()[0].call("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"nobody has slot {slot}")

    def wait_until_ok(self) -> None:
        """Until every server that answers says that the cluster is whole, and every replica has its master's data."""
        wait_until(lambda: all(map(self._is_ok, self._answering())), lambda: "the cluster is not whole")

    def wait_until_moved(self, key: str, node: Node) -> None:
        """Until this server has the slot of a key, and the cluster is whole as those see it that answer."""
        wait_until(lambda: self.master_of(key) is node, lambda: f"{node.address} did not take over")
        self.wait_until_ok()

    def clear(self) -> None:
        """Delete everything, on a cluster that is whole."""
        for node in self.nodes:
            if node.call("ROLE")[0] == "master":
                node.call("FLUSHALL")

    def __enter__(self) -> Self:
        """Start and join."""
        with ExitStack() as stack:
            for node in self.nodes:
                stack.enter_context(node)
            self._join()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill all."""
        self._stack.close()

    def _join(self) -> None:
        first, *others = self.nodes
        for number, master in enumerate(self.masters):
            low, high = SLOTS * number // MASTERS, SLOTS * (number + 1) // MASTERS - 1
            master.call("CLUSTER", "ADDSLOTSRANGE", low, high)
        for number, node in enumerate(self.nodes, 1):
            node.call("CLUSTER", "SET-CONFIG-EPOCH", number)  # else equal epochs are sorted out one by one, in seconds
        for node in others:
            bus = node.call("CONFIG", "GET", "cluster-port")[1]
            first.call("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        known = len(self.nodes)
        wait_until(
            lambda: (
                all(len(node.call("CLUSTER", "NODES").splitlines()) == known for node in self.nodes)
                and all("handshake" not in node.call("CLUSTER", "NODES") for node in self.nodes)
            ),
            lambda: "the servers did not meet",
        )
        for master, replica in zip(self.masters, self.replicas, strict=bool(self.replicas)):
            replica.call("CLUSTER", "REPLICATE", master.call("CLUSTER", "MYID"))
        self.wait_until_ok()

    def _answering(self) -> list[Node]:
        return [node for node in self.nodes if _answers(node)]

    @staticmethod
    def _is_ok(node: Node) -> bool:
        role = node.call("ROLE")
        whole = "cluster_state:ok" in node.call("CLUSTER", "INFO")
        return whole and (role[0] == "master" or role[3] == "connected")


def _answers(node: Node) -> bool:
    try:
        return bool(node.call("PING", seconds=0.5))
    except redis.RedisError:
        return False
