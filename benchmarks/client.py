"""The client process: light readers on raw sockets, and publishers on raw HTTP, so that it is never what is slow."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import cast

from app.tokens import issue_token
from benchmarks.events import GATEWAYS, STAMP, STAMP_BYTES, socket_path, user
from benchmarks.server import Server
from benchmarks.serving import settings

TIMEOUT = 60.0


class WrongCount(Exception):
    """Events were lost or came twice, or the server refused something: the numbers would mean nothing."""


class Tally:
    """What all readers together have received, and how long each event was under way.

    Attributes:
        latencies: nanoseconds of each event, if they are wanted.
    """

    def __init__(self) -> None:
        self.received = 0
        self.latencies: list[int] | None = None
        self._awaited = 0
        self._reached: asyncio.Future[float] | None = None

    def add(self, made_at: bytes) -> None:
        """Count an event."""
        self.received += 1
        if self.latencies is not None:
            self.latencies.append(time.time_ns() - int(made_at))
        if self.received == self._awaited and self._reached is not None:
            self._reached.set_result(time.perf_counter())

    def after(self, more: int) -> asyncio.Future[float]:
        """The time at which so many more have come, by `time.perf_counter`."""
        self._awaited = self.received + more
        self._reached = asyncio.get_running_loop().create_future()
        return self._reached


class Reader(asyncio.Protocol):
    """Counts the events on one connection by the time they carry, however they are framed."""

    def __init__(self, tally: Tally, lost: asyncio.Future[bytes]) -> None:
        self.received = 0
        self._tally = tally
        self._lost = lost
        self._tail = b""

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        data = self._tail + data
        end = 0
        for match in STAMP.finditer(data):
            end = match.end()
            self.received += 1
            self._tally.add(match[1])
        self._tail = data[max(end, len(data) - STAMP_BYTES) :]

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if not self._lost.done():
            self._lost.set_result(self._tail)


class Handshake(asyncio.Protocol):
    """Upgrades a connection, gives the `connect` command if there is one, and hands over to a reader."""

    def __init__(self, hello: bytes, command: bytes, done: asyncio.Future[None]) -> None:
        self._hello = hello
        self._command = command
        self._done = done
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one but for its base class
        self._transport.write(self._hello)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._data += data
        head, upgraded, rest = self._data.partition(b"\r\n\r\n")
        if upgraded and not head.startswith(b"HTTP/1.1 101"):
            self._done.set_exception(WrongCount(head.decode("latin-1")))
        elif upgraded and self._command:
            self._transport.write(self._command)
            self._data, self._command = head + upgraded + rest, b""
        elif upgraded and (not self._waits_for_reply() or b'"connect":' in rest):
            self._done.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if not self._done.done():
            self._done.set_exception(WrongCount(f"the server closed a connection: {self._data!r}"))

    def _waits_for_reply(self) -> bool:
        return self._hello.startswith(b"GET /connection/")


class Crowd:
    """Connected users, one connection each.

    Attributes:
        tally: what they have received; may be that of several crowds.
        readers: in the order of the users.
        lost: when the server closes a connection: the last bytes that came over it.
    """

    def __init__(
        self,
        server: Server,
        tally: Tally | None = None,
        reader: Callable[[Tally, asyncio.Future[bytes]], Reader] = Reader,
    ) -> None:
        self.server = server
        self.tally = tally or Tally()
        self._make_reader = reader
        self.readers: list[Reader] = []
        self.lost: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._transports: list[asyncio.Transport] = []

    async def connect(self, users: range, *, at_once: int = 64) -> float:
        """Connect users, so many at once; the seconds it took. Tokens are made before."""
        greetings = iter([(_hello(self.server, number), _connect_command(self.server, number)) for number in users])
        loop = asyncio.get_running_loop()

        async def some() -> None:
            for greeting in greetings:
                done: asyncio.Future[None] = loop.create_future()
                transport, _ = await loop.create_connection(
                    partial(Handshake, *greeting, done), "127.0.0.1", self.server.port
                )
                await asyncio.wait_for(done, TIMEOUT)
                reader = self._make_reader(self.tally, self.lost)
                transport.set_protocol(reader)
                self.readers.append(reader)
                self._transports.append(transport)

        start = time.perf_counter()
        await asyncio.gather(*(some() for _ in range(at_once)))
        return time.perf_counter() - start

    async def received(self, reached: asyncio.Future[float]) -> float:
        """Wait for events; the time of the last one.

        Raises:
            WrongCount: they do not come.
        """
        done, _ = await asyncio.wait((reached, self.lost), timeout=TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if self.lost in done:
            raise WrongCount(f"{self.server.subject}: the server closed a connection: {self.lost.result()!r}")
        if not done:
            raise WrongCount(f"{self.server.subject}: {self.tally.received} events came, and no more")
        return reached.result()

    async def check(self, each: int) -> None:
        """Whether everybody has received so many events, and nobody more.

        Raises:
            WrongCount: no.
        """
        await asyncio.sleep(0.02)
        counts = {reader.received for reader in self.readers}
        if counts != {each}:
            raise WrongCount(f"{self.server.subject}: {each} events for each user, but some got {sorted(counts)}")

    def leave(self) -> None:
        """Drop all connections."""
        self.lost.cancel()
        for transport in self._transports:
            transport.abort()


class Publisher(asyncio.Protocol):
    """One kept-alive HTTP connection that sends its next request when the last one is answered."""

    def __init__(self, requests: Iterator[bytes], done: asyncio.Future[None]) -> None:
        self._requests = requests
        self._done = done
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one but for its base class
        self._next()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._data += data
        head, whole, body = self._data.partition(b"\r\n\r\n")
        if not whole:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        if not head.startswith(b"HTTP/1.1 200") or b'"error"' in body:
            self._done.set_exception(WrongCount(f"refused: {self._data[:500]!r}"))
            return
        self._data = b""
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        if not self._done.done():
            self._done.set_exception(WrongCount("the server closed a publisher"))

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is not None:
            self._transport.write(request)
        elif not self._done.done():
            self._done.set_result(None)
            self._transport.close()


async def publish_over_http(server: Server, requests: Sequence[bytes], publishers: int) -> None:
    """Send requests over some connections and wait for all answers.

    Raises:
        WrongCount: one was refused.
    """
    loop, remaining = asyncio.get_running_loop(), iter(requests)
    done = [loop.create_future() for _ in range(publishers)]
    for each in done:
        await loop.create_connection(partial(Publisher, remaining, each), "127.0.0.1", server.port)
    await asyncio.wait_for(asyncio.gather(*done), TIMEOUT)


def http_request(path: str, body: object, headers: str = "") -> bytes:
    """The bytes of a POST."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def percentile(values: Sequence[float], percent: int) -> float:
    """A percentile."""
    return statistics.quantiles(values, n=100)[percent - 1]


def _hello(server: Server, number: int) -> bytes:
    return (
        f"GET {socket_path(server.subject, number)} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {b64encode(os.urandom(16)).decode()}\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def _connect_command(server: Server, number: int) -> bytes:
    if server.subject not in GATEWAYS:
        return b""
    token = issue_token(settings().auth, user(number), seconds=3600)
    text = json.dumps({"id": 1, "connect": {"token": token}}).encode()
    # A text frame (RFC 6455, 5.2) masked with zeros, which leaves it as it is.
    return b"\x81" + bytes((0x80 | 126,)) + len(text).to_bytes(2, "big") + bytes(4) + text
