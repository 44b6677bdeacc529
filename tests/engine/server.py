"""Servers of Redis and Valkey, each a process on a free port of 127.0.0.1 with a folder of its own.

Calls block, for milliseconds to seconds. Where an event loop must go on meanwhile: `await asyncio.to_thread(...)`.
The end of a `with` block kills what still runs, paused or not.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.ports import free_port

SECONDS = 20.0
EVERY_SERVER = MappingProxyType({"bind": "127.0.0.1", "save": '""', "loglevel": "notice"})
LASTING = MappingProxyType({"appendonly": "yes", "appendfsync": "always"})


class Node:
    """One server process, which `with` starts.

    Args:
        program: path of the server.
        folder: does not exist yet.
        config: further lines of its configuration file, by name.
        arguments: on the command line, behind that file.
    """

    def __init__(self, program: str, folder: Path, config: Mapping[str, str], *arguments: str) -> None:
        """Choose a port and write the configuration."""
        self.port = free_port()
        self.folder = folder
        self._command = (program, str(folder / "server.conf"), *arguments)
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        lines = {**config, "port": self.port, "dir": folder}
        (folder / "server.conf").write_text("".join(f"{name} {value}\n" for name, value in lines.items()))

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """For `broker.url`."""
        return f"redis://{self.address}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The one that was started last."""
        assert self._process is not None, "not started"
        return self._process

    @property
    def log(self) -> str:
        """What it printed, the end of it."""
        return (self.folder / "log").read_text()[-2000:]

    def call(self, *command: str | int, seconds: float = SECONDS) -> Any:
        """Send one command on a connection of its own and give the answer, as text.

        Raises:
            redis.RedisError: the answer is an error, or none within so many seconds.
        """
        once = Retry(NoBackoff(), 0)
        with redis.Redis(
            port=self.port, socket_timeout=seconds, retry=once, decode_responses=True, protocol=2
        ) as client:
            return client.execute_command(*command)

    def start(self) -> None:
        """Start it, and wait until it answers and has read its data."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder
            )
        wait_until(self._answers, lambda: f"{self.address} does not answer:\n{self.log}")

    def kill(self) -> None:
        """SIGKILL: what it has not written down is lost."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, and wait for its end."""
        self.process.terminate()
        self.process.wait(SECONDS)

    def restart(self) -> None:
        """Start it once more, on its port and with what its folder holds; stop it before, if it runs."""
        if self.process.poll() is None:
            self.stop()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: the system still takes connections and data for it, and nothing answers."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: it goes on, with all that came meanwhile."""
        self.process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        """Start it."""
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill it."""
        self.kill()

    def _answers(self) -> bool:
        assert self.process.poll() is None, f"{self.address} has ended:\n{self.log}"
        try:
            return bool(self.call("PING", seconds=1))
        except (redis.ConnectionError, redis.TimeoutError):  # the first is also how it says that it loads its data
            return False


def cut_off(master: Node, replica: Node) -> None:
    """Pause a replica and take its connection away: what its master acknowledges from now on, it never gets."""
    replica.pause()
    master.call("CLIENT", "KILL", "TYPE", "replica")


class StandAlone(Node):
    """A server of its own.

    Args:
        lasting: it writes each command down before it answers, and so survives `kill`; else it keeps nothing.
        config: as of `Node`.
    """

    def __init__(
        self, program: str, folder: Path, *, lasting: bool = False, config: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """See `Node`."""
        super().__init__(program, folder, {**EVERY_SERVER, **(LASTING if lasting else {}), **config})


def wait_until(condition: Callable[[], object], failure: Callable[[], str]) -> None:
    """Wait for what servers do by themselves.

    Raises:
        AssertionError: they do not, within 20 seconds; its text is that of `failure`.
    """
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, failure()
        time.sleep(0.02)
