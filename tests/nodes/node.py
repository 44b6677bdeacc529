"""A node: a gateway in this process, or one that `bulkhead serve` runs in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

from tests.gateway import API_KEY, SECRET, RunningGateway, build_container, serving
from tests.nodes.options import settings
from tests.ports import free_port


class Node(Protocol):
    """A node, as publishers and devices see it.

    Attributes:
        url: empty while it does not run.
        life: how often it has been started.
    """

    name: str
    url: str
    life: int

    async def start(self) -> None:
        """Start it; returns when it listens."""

    async def stop(self) -> None:
        """Stop it as an operator would; harmless when it does not run."""


class LocalNode:
    """A gateway in the event loop of the test."""

    def __init__(self, name: str, broker_url: str, **options: Any) -> None:
        """Not started."""
        self.name, self.url, self.life = name, "", 0
        self._broker_url = broker_url
        self._options = options
        self._stack = AsyncExitStack()
        self._gateway: RunningGateway | None = None

    @property
    def gateway(self) -> RunningGateway:
        """While it runs."""
        assert self._gateway is not None, "not started"
        return self._gateway

    async def start(self) -> None:
        """See `Node`."""
        container = build_container(**settings(self._broker_url, **self._options))
        self._gateway = await self._stack.enter_async_context(serving(container))
        self.url = self._gateway.url
        self.life += 1

    async def stop(self) -> None:
        """See `Node`."""
        self.url = ""
        await self._stack.aclose()


class ProcessNode:
    """`bulkhead serve`."""

    def __init__(self, name: str, broker_url: str, folder: Path) -> None:
        """Not started."""
        self.name, self.url, self.life = name, "", 0
        self._port = free_port()
        self._folder = folder
        self._process: Process | None = None
        secrets = {"auth": {"hmac_secret": SECRET}, "api_keys": [API_KEY]}
        inherited = {name: value for name, value in os.environ.items() if not name.upper().startswith("BULKHEAD_")}
        self._variables = inherited | _variables({**secrets, "port": self._port, **settings(broker_url)})

    async def start(self) -> None:
        """See `Node`."""
        with (self._folder / f"{self.name}.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "app", "serve", "--profile", "development"),
                env={**self._variables, "PYTHONPATH": str(Path.cwd())},
                cwd=self._folder,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdout is not None
        assert await self._process.stdout.readline(), self.log
        self.life += 1
        self.url = f"http://127.0.0.1:{self._port}"

    @property
    def log(self) -> str:
        """The end of it."""
        return (self._folder / f"{self.name}.log").read_text()[-2000:]

    async def stop(self) -> None:
        """See `Node`: SIGTERM, and it exits with 0."""
        assert await self._end(signal.SIGTERM) == 0, self.log

    async def kill(self) -> None:
        """SIGKILL."""
        await self._end(signal.SIGKILL)

    async def _end(self, how: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(how)
        try:
            async with asyncio.timeout(20):
                return await process.wait()
        finally:
            self.url = ""


def _variables(tree: dict[str, Any], prefix: str = "BULKHEAD_") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= _variables(value, f"{prefix}{name.upper()}__")
        else:
            found[f"{prefix}{name.upper()}"] = value if isinstance(value, str) else json.dumps(value)
    return found
