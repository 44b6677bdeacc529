"""A device of a user: it does what an SDK does, on whatever node takes it, and writes down what it sees."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.gateway import token
from tests.nodes.ledger import CANARY, Owner

EXPECTED_ENDS = frozenset({1000, 1001, 1006, 1012, 3000, 3001, 3004, 3010, 3011, 3503})
SECONDS = 8.0


@dataclass(frozen=True)
class Seen:
    """An event came. Without a position, epoch and offset are empty."""

    name: str
    epoch: str
    offset: int


@dataclass(frozen=True)
class Came:
    """The device was subscribed, at a time."""

    at: float


@dataclass(frozen=True)
class Gap:
    """The device was told that it may have missed something: what lies behind one position and not behind another.

    Attributes:
        told: when.
        behind: the last position that it had; None: any.
        until: where it goes on; None: nobody knows.
    """

    told: float
    behind: tuple[str, int] | None
    until: tuple[str, int] | None


@dataclass
class Place:
    """What a device knows of a channel, and what came.

    Attributes:
        recoverable: it has a position.
        live: came without a position on this connection, and no position behind it was told since.
        excused: came so on a connection that broke; may come once more.
        again: those that did.
        twice: others that did.
    """

    epoch: str = ""
    offset: int = 0
    recoverable: bool = False
    subscribed: bool = False
    log: list[Seen | Gap | Came] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    live: set[str] = field(default_factory=set)
    excused: set[str] = field(default_factory=set)
    again: set[str] = field(default_factory=set)
    twice: set[str] = field(default_factory=set)

    @property
    def position(self) -> tuple[str, int] | None:
        """Epoch and offset, if there is one."""
        return (self.epoch, self.offset) if self.recoverable else None

    def request(self) -> dict[str, Any]:
        """How to ask to go on from here."""
        return {"recover": True, "epoch": self.epoch, "offset": self.offset} if self.recoverable else {}


class Device:
    """Connects, recovers, and connects again, until it is told to stop.

    Args:
        name: of the device.
        owner: whose it is.
        addresses: gives the URL of each node, empty while it has none.
        first: the node that it tries first; one that fails is left for the next one.
        channels: that it subscribes to by itself.

    Attributes:
        places: by channel.
        violations: what should not have come.
        modes: what it was told.
        final: it was told not to come back.
        away: it has no network.
    """

    def __init__(
        self, name: str, owner: Owner, addresses: Callable[[], Sequence[str]], first: int, channels: Sequence[str]
    ) -> None:
        """Not connected."""
        self.name, self.owner = name, owner
        self.node = first
        self.client = ""
        self.places = {channel: Place() for channel in (owner.personal, *channels)}
        self.violations: list[str] = []
        self.modes: list[str] = []
        self.ends: Counter[int] = Counter()
        self.final = False
        self.away = False
        self._addresses = addresses
        self._socket: ClientConnection | None = None
        self._requests: dict[int, tuple[str, dict[str, Any]]] = {}
        self._ids = 0
        self._chance = random.Random(name)

    def __repr__(self) -> str:
        """Its name."""
        return f"device {self.name} of {self.owner.user}/{self.owner.session}"

    @property
    def settled(self) -> bool:
        """Whether it is connected and subscribed to everything."""
        return bool(self.client) and all(place.subscribed for place in self.places.values())

    def leave(self) -> None:
        """Lose the network, until `away` is set to false."""
        self.away = True
        if self._socket is not None:
            self._socket.transport.abort()

    async def run(self) -> None:
        """Stay connected until cancelled, or until told not to come back."""
        while not self.final:
            if self.away:
                await asyncio.sleep(0.02)
                continue
            addresses = self._addresses()
            address = addresses[self.node % len(addresses)]
            try:
                if not address:
                    raise OSError("is down")
                await self._connect(address)
            except (OSError, InvalidHandshake, TimeoutError, EOFError, ConnectionClosed):
                self.node += 1
            await asyncio.sleep(self._chance.uniform(0.02, 0.1))

    async def _connect(self, address: str) -> None:
        url = f"ws{address.removeprefix('http')}/connection/websocket"
        options: dict[str, Any] = {"compression": None, "ping_interval": None, "proxy": None, "close_timeout": 0.1}
        async with connect(url, max_size=None, max_queue=None, open_timeout=SECONDS, **options) as socket:
            self._socket = socket
            personal = self.places[self.owner.personal].request()
            subs = {self.owner.personal: personal} if personal else {}
            try:
                await self._send("connect", {"token": token(self.owner.user, **self.owner.claims), "subs": subs})
                while True:
                    # A connection that says nothing at all is given up, as SDKs do when no reply comes in time.
                    async with asyncio.timeout(SECONDS if self._requests else None):
                        await self._read(await socket.recv(decode=True))
            except ConnectionClosed:
                self._ended(socket)
            finally:
                self._leave()

    def _leave(self) -> None:
        self._socket, self.client = None, ""
        self._requests.clear()
        for place in self.places.values():
            place.subscribed = False
            place.excused |= place.live
            place.live.clear()

    def _ended(self, socket: ClientConnection) -> None:
        end = socket.protocol.close_rcvd
        code = 1006 if end is None else end.code
        self.ends[code] += 1
        self.final = code >= 3500
        if code not in EXPECTED_ENDS:
            self._violate(f"was closed with {code}")
        if code in (1006, 1012, 3001):
            self.node += 1

    async def _send(self, method: str, request: dict[str, Any]) -> None:
        self._ids += 1
        self._requests[self._ids] = method, request
        assert self._socket is not None
        await self._socket.send(json.dumps({"id": self._ids, method: request}))

    async def _read(self, text: str) -> None:
        if any(f"canary:{user}/{session};" != self.owner.canary for user, session in CANARY.findall(text)):
            self._violate(f"got what is not its own: {text[:300]}")
        for line in text.split("\n"):
            message = json.loads(line)
            if not message:
                assert self._socket is not None
                await self._socket.send("{}")
            elif "push" in message:
                await self._take_push(message["push"])
            else:
                await self._take_reply(message)

    async def _take_reply(self, message: dict[str, Any]) -> None:
        method, request = self._requests.pop(message["id"])
        if "error" in message:
            # Temporary ones; SDKs try again by connecting again or by subscribing again.
            if message["error"]["code"] != 100:
                self._violate(f"{method} was answered with {message['error']}")
            assert self._socket is not None
            self._socket.transport.abort()
        elif method == "connect":
            result = message["connect"]
            self.client = result["client"]
            for channel, sub in result["subs"].items():
                self._take_position(channel, request["subs"].get(channel, {}), sub)
            for channel, place in self.places.items():
                if channel not in result["subs"]:
                    await self._send("subscribe", {"channel": channel, **place.request()})
        else:
            self._take_position(request["channel"], request, message["subscribe"])

    def _take_position(self, channel: str, request: dict[str, Any], sub: dict[str, Any]) -> None:
        place = self.places[channel]
        epoch, offset = sub.get("epoch", ""), sub.get("offset", 0)
        place.subscribed = True
        place.log.append(Came(time.monotonic()))
        if sub.get("recovered"):
            # Further than asked for, if the server knows that what lies between came live.
            if not request or epoch != request["epoch"] or offset < request["offset"]:
                self._violate(f"{channel}: recovered from another position than {request}: {sub}")
            place.offset = offset
            place.live.clear()
            for publication in sub.get("publications", ()):
                self._take_publication(channel, place, publication)
            return
        until = (epoch, offset) if sub.get("recoverable") else None
        place.log.append(Gap(time.monotonic(), place.position, until))
        place.epoch, place.offset, place.recoverable = epoch, offset, until is not None

    async def _take_push(self, push: dict[str, Any]) -> None:
        channel = push.get("channel", "")
        if "message" in push:
            self.modes.append(push["message"]["data"]["mode"])
        elif channel not in self.places:
            self._violate(f"got a push of a channel that is not its own: {channel}")
        elif "pub" in push:
            place = self.places[channel]
            if not place.subscribed:
                self._violate(f"{channel}: got a publication while not subscribed")
            self._take_publication(channel, place, push["pub"])
        elif "subscribe" in push:
            place, told = self.places[channel], push["subscribe"]
            if told["epoch"] != place.epoch or told["offset"] <= place.offset:
                self._violate(f"{channel}: {told} was told at {place.position}")
            place.offset = told["offset"]
            place.live.clear()
        elif "unsubscribe" in push:
            if push["unsubscribe"]["code"] != 2500:
                self._violate(f"{channel}: {push}")
            self.places[channel].subscribed = False
            await self._send("subscribe", {"channel": channel, **self.places[channel].request()})

    def _take_publication(self, channel: str, place: Place, publication: dict[str, Any]) -> None:
        name, offset = publication["data"]["data"]["name"], publication.get("offset", 0)
        if name in place.names:
            (place.again if name in place.excused else place.twice).add(name)
        place.names.add(name)
        place.log.append(Seen(name, place.epoch if offset else "", offset))
        if not offset:
            place.live.add(name)
        elif not place.recoverable:
            self._violate(f"{channel}: {name} came at {offset}, and it was told no position")
        elif offset <= place.offset:
            self._violate(f"{channel}: {name} came at {offset} after {place.offset}")
        else:
            place.offset = offset

    def _violate(self, what: str) -> None:
        self.violations.append(f"{self!r} {what}")


async def staying(device: Device) -> None:
    """Run it until cancelled."""
    with contextlib.suppress(asyncio.CancelledError):
        await device.run()
