"""A master, its replica, and the sentinels that let the replica take over."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from tests.engine.server import Node, StandAlone, wait_until

NAME = "engine"
REPLICATION = MappingProxyType({"repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"})


class Sentinel:
    """Two servers under sentinels, which `with` starts; the replica takes over within about two seconds of a failure.

    Args:
        program: path of the server.
        folder: of all its servers' folders.
        sentinels: how many; most of them have to agree.
        config: further lines of the configuration files of both servers, by name.
    """

    def __init__(
        self, program: str, folder: Path, *, sentinels: int = 1, config: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Nothing runs yet."""
        lines = {**REPLICATION, **config}
        self.master = StandAlone(program, folder / "master", config=lines)
        following = {**lines, "replicaof": f"127.0.0.1 {self.master.port}"}
        self.replica = StandAlone(program, folder / "replica", config=following)
        watching = {
            "bind": "127.0.0.1",
            "sentinel": f"monitor {NAME} 127.0.0.1 {self.master.port} {sentinels // 2 + 1}",
            f"sentinel down-after-milliseconds {NAME}": "800",
            f"sentinel failover-timeout {NAME}": "3000",
        }
        self.sentinels = tuple(
            Node(program, folder / f"sentinel-{number}", watching, "--sentinel") for number in range(sentinels)
        )
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """For `broker.url`."""
        return f"redis+sentinel://{','.join(sentinel.address for sentinel in self.sentinels)}/{NAME}/0"

    def wait_until_serving(self, node: Node) -> None:
        """Until every sentinel names this server as the master, and it is."""

        def is_master() -> bool:
            asked = (sentinel.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME) for sentinel in self.sentinels)
            return all(int(port) == node.port for _, port in asked) and node.call("ROLE")[0] == "master"

        wait_until(is_master, lambda: f"{node.address} did not become the master")

    def __enter__(self) -> Self:
        """Start all; the sentinels know the replica, and each other."""
        with ExitStack() as stack:
            for node in (self.master, self.replica, *self.sentinels):
                stack.enter_context(node)
            wait_until(lambda: all(map(self._knows_all, self.sentinels)), lambda: "the sentinels do not know all")
            wait_until(lambda: self.replica.call("ROLE")[3] == "connected", lambda: "the replica has no data")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill all."""
        self._stack.close()

    def _knows_all(self, sentinel: Node) -> bool:
        replicas, others = (len(sentinel.call("SENTINEL", what, NAME)) for what in ("REPLICAS", "SENTINELS"))
        return (replicas, others) == (1, len(self.sentinels) - 1)
