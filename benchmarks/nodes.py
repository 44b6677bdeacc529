"""Processes of `bulkhead serve` on one Valkey, and the load balancer in front of them."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.events import API_KEY, HMAC_SECRET
from benchmarks.server import ROOT, ServerFailed
from benchmarks.valkey import free_port

CHECK_SECONDS, ANSWER_SECONDS, START_SECONDS = 0.1, 3.0, 30.0


class Node:
    """A gateway process, started again and again on its port.

    Args:
        broker: address of the engine.
        drain: `shutdown.drain_seconds`.
    """

    def __init__(self, broker: str, drain: float) -> None:
        """Nothing runs yet."""
        self.port = free_port()
        self.ready = False
        self._environment = {
            **os.environ,
            "BULKHEAD_PORT": str(self.port),
            "BULKHEAD_AUTH__HMAC_SECRET": HMAC_SECRET,
            "BULKHEAD_API_KEYS": json.dumps([API_KEY]),
            "BULKHEAD_BROKER__URL": broker,
            "BULKHEAD_SHUTDOWN__DRAIN_SECONDS": str(drain),
            "BULKHEAD_SHUTDOWN__GRACE_SECONDS": str(drain + 20),
            "BULKHEAD_LOG__LEVEL": "WARNING",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it is ready a little later."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve"], cwd=ROOT, env=self._environment, stdout=subprocess.DEVNULL
        )

    def terminate(self) -> None:
        """SIGTERM."""
        self.ready = False
        self._running().send_signal(signal.SIGTERM)

    async def ended(self) -> None:
        """Wait until the process has ended.

        Raises:
            ServerFailed: not with 0.
        """
        process = self._running()
        code = await asyncio.to_thread(process.wait)
        if code:
            raise ServerFailed(f"a node ended with {code}")

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def check(self) -> bool:
        """Whether `/ready` says so."""
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", self.port), ANSWER_SECONDS)
        except (OSError, TimeoutError):
            return False
        try:
            writer.write(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return (await asyncio.wait_for(reader.readline(), ANSWER_SECONDS)).startswith(b"HTTP/1.1 200")
        except (OSError, TimeoutError):
            return False
        finally:
            writer.close()

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process


class Balancer:
    """Knows which nodes are ready, as a load balancer does, and sends everybody to one of these."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        """Nothing is known yet."""
        self.nodes = nodes

    async def watch(self) -> None:
        """Ask every node, ten times a second if it answers at once, until cancelled."""
        await asyncio.gather(*map(self._watch, self.nodes))

    async def _watch(self, node: Node) -> None:
        while True:
            node.ready = await node.check()
            await asyncio.sleep(CHECK_SECONDS)

    async def until_ready(self, nodes: Sequence[Node]) -> None:
        """Wait for nodes.

        Raises:
            TimeoutError: one does not get ready.
        """
        async with asyncio.timeout(START_SECONDS):
            while not all(node.ready for node in nodes):  # noqa: ASYNC110 - `watch` asks them
                await asyncio.sleep(CHECK_SECONDS)

    def choose(self) -> int | None:
        """The port of a node that is ready, at random; None: there is none."""
        ready = [node.port for node in self.nodes if node.ready]
        return random.choice(ready) if ready else None
