"""The server process as the client side sees it."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import Cores

ROOT = Path(__file__).parents[1]
SANSIO, UVLOOP = "websockets-sansio", "uvloop"


class ServerFailed(Exception):
    """The server process ended; its standard error says why."""


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        subject: what it serves.
        port: where, on 127.0.0.1.
    """

    subject: str
    port: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, command: str, **arguments: Any) -> dict[str, float]:
        """Let it carry out a command of `benchmarks.serving.Commands`."""
        self.writer.write(json.dumps((command, arguments)).encode() + b"\n")
        answer: dict[str, float] = json.loads(await _line(self.reader, self.subject))
        return answer


@asynccontextmanager
async def running(
    subject: str, cores: Cores, *, ws: str = SANSIO, loop: str = UVLOOP, broker: str = "memory://"
) -> AsyncIterator[Server]:
    """Start a server process on its core, and end it. `broker` is the gateway's alone.

    Raises:
        ServerFailed: it did not start.
    """
    ours, theirs = socket.socketpair()
    options = ["--control", str(theirs.fileno()), "--ws", ws, "--loop", loop, "--broker", broker]
    if cores.server is not None:
        options += ["--core", str(cores.server)]
    with theirs:
        # A warning about a library that a comparison uses on purpose would end up between the lines of the table.
        process = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs meanwhile
            [sys.executable, "-W", "ignore", "-m", "benchmarks.serving", subject, *options],
            cwd=ROOT,
            pass_fds=(theirs.fileno(),),
            stdout=subprocess.DEVNULL,
        )
    try:
        reader, writer = await asyncio.open_connection(sock=ours)
        port = json.loads(await _line(reader, subject))["port"]
        yield Server(subject, port, reader, writer)
        writer.close()
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def all_running(subjects: tuple[str, ...], cores: Cores) -> AsyncIterator[list[Server]]:
    """Start several; only one of them is busy at a time, so they share their core."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running(subject, cores)) for subject in subjects]


async def _line(reader: asyncio.StreamReader, subject: str) -> bytes:
    line = await asyncio.wait_for(reader.readline(), 120)
    if not line:
        raise ServerFailed(f"the server of {subject} ended")
    return line
