"""Users of the rolling restart: raw sockets that come back as SDKs do, and know what they should have seen."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from base64 import b64encode
from collections import defaultdict
from collections.abc import Callable
from typing import Any, cast

import msgspec

from app.tokens import issue_token
from benchmarks.events import user
from benchmarks.serving import settings

# As the JavaScript SDK: seconds, doubled with each attempt, and at random between the two.
MIN_DELAY, MAX_DELAY = 0.5, 20.0
CONNECT_SECONDS = 5.0
TEXT, CLOSE = 1, 8
FINAL = range(3500, 4000)  # close codes after which SDKs stay away


class Journal:
    """What all users together have seen.

    Attributes:
        online: users who are connected.
        returns: when somebody was connected again, by `time.perf_counter`.
        absences: seconds for which somebody was not connected.
        live, recovered: nanoseconds from the publish of an event to its receipt, by phase.
        unrecovered: returns on which the gateway could not give everything that was missed.
        unforeseen: what nobody should have seen: errors, final disconnects.
    """

    def __init__(self) -> None:
        """Nothing was seen yet."""
        self.phase = ""
        self.online = 0
        self.received = 0
        self.returns: list[float] = []
        self.absences: list[float] = []
        self.live: defaultdict[str, list[int]] = defaultdict(list)
        self.recovered: defaultdict[str, list[int]] = defaultdict(list)
        self.unrecovered = 0
        self.refused_attempts = 0
        self.unforeseen: list[str] = []


class Visitor(asyncio.Protocol):
    """One user with one connection at a time, to whichever node the load balancer chooses.

    Attributes:
        seen: numbers of the events, in the order in which they came.
    """

    def __init__(self, number: int, journal: Journal, choose: Callable[[], int | None]) -> None:
        """Not connected."""
        self.seen: list[int] = []
        self._journal = journal
        self._choose = choose
        self._channel = f"#{user(number)}"
        self._token = issue_token(settings().auth, user(number), seconds=3600)
        self._epoch, self._offset = "", 0
        self._attempts = 0
        self._left_at: float | None = None
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self._upgraded = self._connected = self._ended = False
        self._give_up: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Connect, now; and again whenever the connection ends."""
        self._opening = asyncio.get_running_loop().create_task(self._open())

    def end(self) -> None:
        """Stay away from now on."""
        self._ended = True
        if self._transport is not None:
            self._transport.abort()

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        port = self._choose()
        try:
            if port is None:
                raise OSError("no node is ready")
            async with asyncio.timeout(CONNECT_SECONDS):
                await loop.create_connection(lambda: self, "127.0.0.1", port)
        except OSError:  # TimeoutError is one
            self._journal.refused_attempts += 1
            self._later()

    def _later(self) -> None:
        if self._ended:
            return
        delay = min(MAX_DELAY, MIN_DELAY + random.uniform(0, min(MAX_DELAY, MIN_DELAY * 2**self._attempts)))
        self._attempts += 1
        asyncio.get_running_loop().call_later(delay, self.open)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)
        self._data, self._upgraded, self._connected = b"", False, False
        self._give_up = asyncio.get_running_loop().call_later(CONNECT_SECONDS, self._transport.abort)
        self._transport.write(
            b"GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + b64encode(os.urandom(16)) + b"\r\n\r\n"
        )

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if self._give_up is not None:
            self._give_up.cancel()
        self._transport = None
        if self._connected:
            self._connected = False
            self._journal.online -= 1
            self._left_at = time.perf_counter()
        else:
            self._journal.refused_attempts += 1
        self._later()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._data += data
        if not self._upgraded:
            head, complete, rest = self._data.partition(b"\r\n\r\n")
            if not complete:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                self._abort()
                return
            self._upgraded, self._data = True, rest
            self._send(self._hello())
        while (frame := _frame(self._data)) is not None:
            kind, payload, self._data = frame
            if kind == CLOSE:
                self._closed(int.from_bytes(payload[:2], "big"))
                return
            for line in payload.split(b"\n"):
                self._message(line)

    def _hello(self) -> dict[str, Any]:
        request: dict[str, Any] = {"token": self._token}
        if self._epoch:
            position = {"recover": True, "epoch": self._epoch, "offset": self._offset}
            request["subs"] = {self._channel: position}
        return {"id": 1, "connect": request}

    def _send(self, command: dict[str, Any]) -> None:
        text = json.dumps(command).encode()
        length = bytes((0x80 | len(text),)) if len(text) < 126 else b"\xfe" + len(text).to_bytes(2, "big")
        if self._transport is not None:
            # A text frame (RFC 6455, 5.2) masked with zeros, which leaves it as it is.
            self._transport.write(b"\x81" + length + bytes(4) + text)

    def _closed(self, code: int) -> None:
        if code in FINAL:
            self._journal.unforeseen.append(f"closed with {code}")
        if self._transport is not None:
            self._transport.write(b"\x88\x82" + bytes(4) + code.to_bytes(2, "big"))
            self._transport.close()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _message(self, line: bytes) -> None:
        if line == b"{}":
            self._send({})
            return
        message = msgspec.json.decode(line)
        push = message.get("push", {})
        if "pub" in push:
            self._take(push["pub"], self._journal.live[self._journal.phase])
        elif "connect" in message:
            self._welcome(message["connect"]["subs"][self._channel])
        else:
            self._journal.unforeseen.append(line.decode())
            if "error" in message:
                self._abort()

    def _welcome(self, found: dict[str, Any]) -> None:
        journal = self._journal
        if self._give_up is not None:
            self._give_up.cancel()
        self._connected, self._attempts = True, 0
        journal.online += 1
        if self._left_at is not None:
            now = time.perf_counter()
            journal.returns.append(now)
            journal.absences.append(now - self._left_at)
            self._left_at = None
        if self._epoch and not found.get("recovered"):
            journal.unrecovered += 1
        if self._epoch != found["epoch"] or not found.get("recovered"):
            self._epoch, self._offset = found["epoch"], found.get("offset", 0)
        for publication in found.get("publications", ()):
            self._take(publication, journal.recovered[journal.phase])

    def _take(self, publication: dict[str, Any], latencies: list[int]) -> None:
        event = publication["data"]["data"]
        self._offset = publication["offset"]
        self.seen.append(event["n"])
        self._journal.received += 1
        latencies.append(time.time_ns() - event["t"])


def _frame(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Kind and payload of the first frame, and what is behind it; None: it is not complete."""
    if len(data) < 2:
        return None
    start, length = 2, data[1]
    if length >= 126:
        start += 2 if length == 126 else 8
        length = int.from_bytes(data[2:start], "big")
    end = start + length
    return None if len(data) < max(start, end) else (data[0] & 15, data[start:end], data[end:])
