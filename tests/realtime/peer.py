"""A client of one connection, without a socket: frames go in by call and are read from the connection's queue.

async with Peer(container) as alice:
    await alice.connect("alice")
    assert await alice.result("publish", {"channel": "news", "data": 1}) == {}
    assert alice.pushes() == [...]
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from types import TracebackType
from typing import Any

from app.realtime.codes import Disconnect
from app.realtime.connection import ClientConnection
from app.realtime.outbound import Write
from containers import GatewayContainer
from tests.gateway import token


class Peer:
    """What a transport and a client are to a connection. Reads at once all that is queued for it.

    Attributes:
        connection: the connection.
        messages: what came and was not taken, in order.
        told_to_close: how often the server said that it ends the connection.
        close_code: what it said; None while it has not.
        close_frames: close frames that came.
        reads: cleared, it reads nothing and its transport is full.
    """

    def __init__(self, container: GatewayContainer) -> None:
        """Take a new connection of the container."""
        self.connection: ClientConnection = container.connection()
        self.messages: list[dict[str, Any]] = []
        self.told_to_close = 0
        self.close_code: int | None = None
        self.close_frames = 0
        self.reads = asyncio.Event()
        self.reads.set()
        self._ids = 0
        self._left = False

    async def __aenter__(self) -> Peer:
        """Open the connection."""
        self.connection.open(self._send, self._end)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Go away, as a client whose network is lost."""
        self.leave()

    def leave(self) -> None:
        """Go away; harmless when repeated."""
        if not self._left:
            self._left = True
            self.connection.close(3000)
            self.connection.outbound.abort()

    async def connect(self, user: str | None, *, subs: dict[str, Any] | None = None, **claims: Any) -> dict[str, Any]:
        """Connect as a user; the result."""
        return await self.result("connect", {"token": token(user, **claims), "subs": subs or {}})

    async def send(self, text: str) -> None:
        """Send one frame as it is."""
        await self.connection.receive(text)
        await self.settle()

    async def settle(self) -> None:
        """Read what is queued."""
        while True:
            await asyncio.sleep(0)
            if not self.connection.outbound.size:
                return

    async def call(self, method: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send one command and give its whole reply; empty if there is none."""
        self._ids += 1
        number = self._ids
        await self.send(json.dumps({"id": number, method: request or {}}))
        reply = next((message for message in self.messages if message.get("id") == number), {})
        if reply:
            self.messages.remove(reply)
        return reply

    async def result(self, method: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        """The result of one command; an error fails the test."""
        reply = await self.call(method, request)
        assert method in reply, (reply, self.close_code)
        result: dict[str, Any] = reply[method]
        return result

    async def error(self, method: str, request: dict[str, Any] | None = None) -> int:
        """The error code of one command; a result fails the test."""
        reply = await self.call(method, request)
        assert "error" in reply, (reply, self.close_code)
        code: int = reply["error"]["code"]
        return code

    def pushes(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Take the pushes that came; with a kind, only what such pushes carry."""
        pushes = [message["push"] for message in self.messages if "push" in message]
        self.messages = [message for message in self.messages if "push" not in message]
        return pushes if kind is None else [push[kind] for push in pushes if kind in push]

    def data(self) -> list[Any]:
        """Take the data of the publications that came: of an event, what the back end gave."""
        publications = [publication["data"] for publication in self.pushes("pub")]
        return [data["data"] if isinstance(data, dict) and "at" in data else data for data in publications]

    def _end(self, reason: Disconnect) -> Callable[[], Write]:
        self.told_to_close += 1
        self.close_code = reason.disconnect.code
        return self._close

    async def _close(self) -> None:
        self.close_frames += 1

    async def _send(self, text: str) -> None:
        await self.reads.wait()
        self.messages.extend(json.loads(line) for line in text.split("\n"))
