"""A gateway on a free port in the event loop of the test, and a client that shows every frame as it is.

    async with serving(build_container(clock=ManualClock(), ping={"timeout": 3})) as gateway:
        async with gateway.connected("alice") as alice:
            reply = await alice.call("publish", {"channel": "news", "data": 1})
            assert await alice.push() == {"channel": "news", "pub": {...}}

The server is the one of `bulkhead serve` (`app.testing.serve`). Every wait ends after `SECONDS`: TimeoutError.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import httpx
import jwt
from dependency_injector import providers
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from app import create_app
from app.realtime.clock import Clock
from app.testing import gateway_container, serve
from containers import GatewayContainer

SECRET = "a-secret-that-only-tests-use-32-bytes"
API_KEY = "an-api-key-that-only-tests-use"
SECONDS = 5.0
QUIET = MappingProxyType({"interval": 1e9, "timeout": 1})
"""Setting `ping` for tests that let time pass and speak of something else."""


def token(user: str | None = None, *, secret: str = SECRET, **claims: Any) -> str:
    """A connection token (JWT, HS256) of `user` that does not expire, with further claims."""
    subject = {} if user is None else {"sub": user}
    return jwt.encode({**subject, **claims}, secret, algorithm="HS256")


def build_container(*, clock: Clock | None = None, **settings: Any) -> GatewayContainer:
    """A container of its own.

    Args:
        clock: default: the real one.
        settings: of `Settings`; `auth` and `api_keys` default to `SECRET` and `API_KEY`. The environment has no say.
    """
    container = gateway_container(**{"auth": {"hmac_secret": SECRET}, "api_keys": (API_KEY,), **settings})
    if clock is not None:
        container.clock.override(providers.Object(clock))
    return container


class Client:
    """A client of the JSON protocol that does nothing by itself: it answers no ping and reconnects never.

    Ask `call` for a reply, `push` for the next push, `message` for what comes next, `frame` for the next
    WebSocket message as it came, `closed` for the end.
    """

    def __init__(self, socket: ClientConnection) -> None:
        """Wrap an open WebSocket."""
        self.socket = socket
        self._ids = 0
        self._messages: deque[dict[str, Any]] = deque()

    async def send(self, *commands: dict[str, Any] | str) -> None:
        """Send commands in one frame; text goes out as it is."""
        texts = (command if isinstance(command, str) else json.dumps(command) for command in commands)
        await self.socket.send("\n".join(texts))

    async def frame(self) -> str:
        """The next WebSocket message as it came. Messages that were read and kept are not in it.

        Raises:
            websockets.ConnectionClosed: the connection ended instead.
        """
        async with asyncio.timeout(SECONDS):
            return await self.socket.recv(decode=True)

    async def message(self, wanted: Callable[[dict[str, Any]], bool] = bool) -> dict[str, Any]:
        """The next message for which `wanted` holds, default: anything but a ping; others are kept, in order."""
        for message in self._messages:
            if wanted(message):
                self._messages.remove(message)
                return message
        while True:
            come: list[dict[str, Any]] = [json.loads(line) for line in (await self.frame()).split("\n")]
            found = next((message for message in come if wanted(message)), None)
            if found is not None:
                come.remove(found)
            self._messages.extend(come)
            if found is not None:
                return found

    async def push(self) -> dict[str, Any]:
        """The next push, without its wrapping: `{"channel": ..., "<kind>": ...}`."""
        pushed: dict[str, Any] = (await self.message(lambda message: "push" in message))["push"]
        return pushed

    async def ping(self) -> None:
        """Wait for a ping, `{}`; answer with `send({})`."""
        await self.message(lambda message: not message)

    async def publications(self, count: int) -> list[dict[str, Any]]:
        """The next pushes, all of them publications: `{"data": ..., "offset": ...}` of each."""
        return [(await self.push())["pub"] for _ in range(count)]

    async def call(self, method: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send one command and give its whole reply, `{"id": ..., "<method>" or "error": ...}`."""
        self._ids += 1
        number = self._ids
        await self.send({"id": number, method: request or {}})
        return await self.message(lambda message: message.get("id") == number)

    async def result(self, method: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        """The result of one command; an error fails the test."""
        reply = await self.call(method, request)
        assert "error" not in reply, reply
        result: dict[str, Any] = reply[method]
        return result

    async def error(self, method: str, request: dict[str, Any] | None = None) -> dict[str, Any]:
        """The error of one command; a result fails the test."""
        reply = await self.call(method, request)
        assert "error" in reply, reply
        error: dict[str, Any] = reply["error"]
        return error

    async def frames(self) -> AsyncIterator[str]:
        """Every WebSocket message until the connection ends."""
        try:
            while True:
                yield await self.frame()
        except ConnectionClosed:
            return

    async def closed(self) -> tuple[int, str]:
        """Read to the end and give close code and reason; (1006, "") if there was no close frame."""
        async for _ in self.frames():
            pass
        end = self.socket.protocol.close_rcvd
        return (1006, "") if end is None else (end.code, end.reason)

    async def arrived(self) -> list[dict[str, Any]]:
        """Take every push that came or is on its way, without its wrapping; see `nothing`."""
        await self.error("no_such_method")
        pushes = [message["push"] for message in self._messages if "push" in message]
        self._messages = deque(message for message in self._messages if "push" not in message)
        return pushes

    async def nothing(self) -> None:
        """See that nothing but pings is left, kept or on its way: what comes is in order, and this reply is last."""
        await self.error("no_such_method")
        assert not any(self._messages), self._messages


@dataclass(frozen=True)
class RunningGateway:
    """A gateway that serves at `url`, such as `http://127.0.0.1:40123`."""

    container: GatewayContainer
    url: str

    @property
    def port(self) -> int:
        """The free port it found."""
        return int(self.url.rpartition(":")[2])

    @property
    def websocket_url(self) -> str:
        """Where SDKs connect."""
        return f"ws{self.url.removeprefix('http')}/connection/websocket"

    def api(self, **headers: str) -> httpx.AsyncClient:
        """An HTTP client of a back end."""
        # Empty, as TLS is not spoken here: to load the certificates of the system takes longer than most tests.
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        keys = {"X-API-Key": API_KEY, **headers}
        return httpx.AsyncClient(base_url=self.url, headers=keys, timeout=SECONDS, verify=tls)

    @asynccontextmanager
    async def client(self, query: str = "", **options: Any) -> AsyncIterator[Client]:
        """A client on an open WebSocket that has sent nothing yet.

        Args:
            query: with its question mark.
            options: of `websockets.connect`, such as `origin`, `subprotocols`, `max_queue`.
        """
        settings = {"compression": None, "ping_interval": None, "max_size": None, "proxy": None, **options}
        async with connect(self.websocket_url + query, **settings) as socket:
            yield Client(socket)

    @asynccontextmanager
    async def connected(self, user: str, *, request: Any = None, **claims: Any) -> AsyncIterator[Client]:
        """A client of `user` that is connected.

        Args:
            request: further fields of the connect command, such as `subs`.
            claims: further claims of its token.
        """
        async with self.client() as client:
            await client.result("connect", {"token": token(user, **claims), **(request or {})})
            yield client


@asynccontextmanager
async def serving(container: GatewayContainer | None = None) -> AsyncIterator[RunningGateway]:
    """Serve a container, by default one of its own, until the block ends; then stop as `bulkhead serve` does."""
    container = container or build_container()
    async with serve(create_app(container)) as url:
        yield RunningGateway(container, url)


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what happens without a sign to wait for.

    Raises:
        TimeoutError: it does not.
    """
    async with asyncio.timeout(SECONDS):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.002)
