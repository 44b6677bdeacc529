"""A device: it does what an SDK does, and holds the gateway to what it promises."""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import AsyncExitStack
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.gateway import SECONDS, token
from tests.isolation.receiver import Place, Receiver, World

# Moved to another key, sent away, too slow, behind, silent. Any other end is the gateway's fault.
EXPECTED_ENDS = frozenset({1000, 1001, 1006, 3008, 3010, 3011, 3012, 3503})
# Refused for its own sake, or by the mode. 100 and 3004 are expected only of a broker that fails.
EXPECTED_ERRORS = frozenset({103, 104, 105, 106, 111, 1503})


def narrow_socket(port: int) -> socket.socket:
    """A connected socket that takes little before it is read, and is as fast as others when it is."""
    made = socket.socket(proto=socket.IPPROTO_TCP)  # without it asyncio leaves Nagle's delay on
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * 1024)
    made.connect(("127.0.0.1", port))
    made.setblocking(False)
    return made


class Gone(Exception):
    """The connection ended before the answer came."""


class Device(Receiver):
    """One device of a user. It answers pings, keeps positions and recovers from them; it connects when told to.

    Args:
        world: the gateway and the truth.
        user: user id, itself a canary.
        session: its sign-in.
        number: even ones have a fast network, odd ones a slow one.

    Attributes:
        client: client id; empty unless connected.
    """

    def __init__(self, world: World, user: str, session: str, number: int) -> None:
        """Not connected."""
        super().__init__(world, user, session)
        self.number = number
        self.client = ""
        self._stack = AsyncExitStack()
        self._socket: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._reads = asyncio.Event()
        self._reads.set()
        self._late = False  # it learns of its end when the reason is past
        self._ids = 0
        self._calls: dict[int, tuple[str, dict[str, Any], asyncio.Future[dict[str, Any]]]] = {}

    def __repr__(self) -> str:
        """Whose it is."""
        return f"device {self.number} of {self.user} {self.session}"

    @property
    def personal(self) -> str:
        """The channel to which the server subscribes it."""
        return f"#{self.user}"

    @property
    def paused(self) -> bool:
        """It does not read."""
        return not self._reads.is_set()

    async def connect(self) -> None:
        """Connect, with recovery, and subscribe again to what it was subscribed to.

        Raises:
            Gone: the gateway did not take it.
        """
        await self._open()
        await self.call("connect", self._connect_request())
        for channel, place in self.places.items():
            if channel != self.personal and not place.subscribed:
                await self.subscribe(channel)

    async def connect_and_vanish(self, turns: int) -> None:
        """Ask for a connection and pull the plug after some turns of the event loop."""
        await self._open()
        asking = asyncio.create_task(self.call("connect", self._connect_request()))
        for _ in range(turns):
            await asyncio.sleep(0)
        await self.drop()
        await asyncio.gather(asking, return_exceptions=True)

    async def _open(self) -> None:
        await self.drop()
        gateway, slow = self.world.gateway, self.number % 2
        options: dict[str, Any] = {"max_queue": 1, "sock": narrow_socket(gateway.port)} if slow else {"max_queue": None}
        client = await self._stack.enter_async_context(gateway.client(close_timeout=0.1, **options))
        self._socket, self._late = client.socket, False
        self._reader = asyncio.create_task(self._read(client.socket))

    def _connect_request(self) -> dict[str, Any]:
        subs = {self.personal: self._from_here(self.personal)}
        return {"token": token(self.user, sid=self.session), "subs": subs}

    def _from_here(self, channel: str) -> dict[str, Any]:
        place = self.places.setdefault(channel, Place())
        return {"recover": True, "epoch": place.epoch, "offset": place.offset}

    async def subscribe(self, channel: str) -> None:
        """Subscribe, from where it was."""
        await self.call("subscribe", {"channel": channel, "join_leave": True, **self._from_here(channel)})

    async def drop(self, *, politely: bool = False) -> None:
        """End the connection, or pull the plug; harmless when repeated."""
        socket, reader, self._reader = self._socket, self._reader, None
        self._reads.set()
        if reader is None:
            return
        if socket is not None and politely:
            await socket.close()
        elif socket is not None:
            socket.transport.abort()
        await reader
        await self._stack.aclose()

    def pause(self) -> None:
        """Read nothing, until `resume`."""
        self._late = True
        self._reads.clear()

    def resume(self) -> None:
        """Read on."""
        self._reads.set()

    async def call(self, method: str, request: dict[str, Any]) -> dict[str, Any]:
        """Send a command and give its reply; what it changes is in place by then.

        Raises:
            Gone: there is no connection, it does not read, or it ended.
        """
        if self._socket is None or self.paused:
            raise Gone
        self._ids += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        try:
            await self._socket.send(json.dumps({"id": self._ids, method: request}))
        except ConnectionClosed:
            raise Gone from None
        if self._socket is None:
            raise Gone
        self._calls[self._ids] = method, request, answer
        async with asyncio.timeout(SECONDS * 4):
            reply = await answer
        if "error" in reply and reply["error"]["code"] not in EXPECTED_ERRORS and not self.world.may_fail(self.user):
            self.violate(f"{method} was answered with {reply['error']}")
        return reply

    async def catch_up(self) -> None:
        """Wait for all that was sent up to now: replies come in order with the rest."""
        await self.call("no_such_method", {})

    async def _read(self, socket: ClientConnection) -> None:
        try:
            while True:
                await self._reads.wait()
                text = await socket.recv(decode=True)
                self.search(text)
                for line in text.split("\n"):
                    await self._take(socket, json.loads(line))
        except ConnectionClosed:
            pass
        except (LookupError, TypeError) as error:
            self.violate(f"got what it cannot read: {error!r}")
        finally:
            self._ended(socket)

    def _ended(self, socket: ClientConnection) -> None:
        end = socket.protocol.close_rcvd
        code = 1006 if end is None else end.code
        if code not in EXPECTED_ENDS and not (code == 3004 and (self._late or self.world.may_fail(self.user))):
            self.violate(f"was closed with {code}")
        self.world.tally[f"ended with {code}"] += 1
        self._socket = None
        self.key = self.client = ""
        for place in self.places.values():
            place.subscribed = False
        for _, _, answer in self._calls.values():
            if not answer.done():
                answer.set_exception(Gone)
        self._calls.clear()

    async def _take(self, socket: ClientConnection, message: dict[str, Any]) -> None:
        if not message:
            await socket.send("{}")
        elif "push" in message:
            self.take_push(message["push"])
        else:
            method, request, answer = self._calls.pop(message["id"])
            self._take_reply(method, request, message)
            if not answer.done():
                answer.set_result(message)

    def _take_reply(self, method: str, request: dict[str, Any], message: dict[str, Any]) -> None:
        result = message.get(method)
        if result is None:
            return
        match method:
            case "connect":
                self.client = result["client"]
                self.world.tally["connections"] += 1
                managers = self.world.gateway.container.publisher().connected(self.user)
                self.key = next(
                    (m.key for m in managers if self.client in {connection.id for connection in m.connections}), ""
                )
                for channel, sub in result.get("subs", {}).items():
                    self.take_position(channel, request["subs"][channel], sub)
            case "subscribe":
                self.take_position(request["channel"], request, result)
            case "unsubscribe":
                self.places[request["channel"]].subscribed = False
            case "history":
                for publication in result.get("publications", ()):
                    self.compare(request["channel"], result["epoch"], publication)
