"""From one time that the servers were reached until the next time that one of them was lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from app.realtime.broker import BrokerError, BrokerUnavailable
from app.realtime.redis.lane import Lane
from app.realtime.redis.link import Link
from app.realtime.redis.scripts import RedisOptions, Scripts
from app.realtime.redis.servers import Servers


class Attachment:
    """A lane and a link to every server. It is whole, or it has failed: then there will be another one.

    Args:
        servers: which there are.
        scripts: what the servers must know.
        options: times.
        node: name of this node, for the channels on which it hears itself.
        receive: called with the channel and each message.
        failed: called once, with the reason, when a server was lost.
    """

    def __init__(
        self,
        servers: Servers,
        scripts: Scripts,
        options: RedisOptions,
        *,
        node: str,
        receive: Callable[[bytes, bytes], None],
        failed: Callable[[str], None],
    ) -> None:
        """Not open yet."""
        self._servers = servers
        self._scripts = scripts
        self._options = options
        self._node = node
        self._receive = receive
        self._report = failed
        self._lanes: dict[str, Lane] = {}
        self._links: dict[str, Link] = {}
        self._echoes: dict[bytes, str] = {}
        self._heard: dict[bytes, asyncio.Event] = {}
        self._closed = False
        self._reason = ""

    async def open(self, channels: Iterable[str]) -> None:
        """Connect to every server, and subscribe to channels.

        Raises:
            redis.RedisError, OSError, TimeoutError, BrokerUnavailable: not all of it could be done.
        """
        async with asyncio.timeout(self._options.timeout):
            found = await self._servers.discover()
        if not found:
            raise BrokerUnavailable("no server takes writes")
        for name, connect in found.items():
            self._lanes[name] = Lane(
                name,
                connect(),
                self._servers,
                timeout=self._options.timeout,
                pending=self._options.pending,
                failed=self._failed,
            )
            self._links[name] = Link(
                connect(), timeout=self._options.timeout, receive=self._received, failed=self._failed
            )
            self._listen(name)
        await _all(lane.open(self._scripts.load) for lane in self._lanes.values())
        await _all(link.open() for link in self._links.values())
        await self.subscribe(itertools.chain((echo.decode() for echo in self._echoes), channels))

    async def subscribe(self, channels: Iterable[str]) -> None:
        """Subscribe to channels, on the servers that they lie on.

        Raises:
            TimeoutError: not all were confirmed in time.
            BrokerUnavailable: it failed meanwhile, or a channel lies on a server that is new.
        """
        by_server: defaultdict[str, list[str]] = defaultdict(list)
        for channel in channels:
            by_server[self.lane(channel)[1]].append(channel)
        await _all(self._links[name].subscribe(several) for name, several in by_server.items())
        self._require_whole()

    def _listen(self, server: str) -> None:
        """Choose a channel that lies on the server, on which this node hears itself."""
        for number in itertools.count():
            channel = self._scripts.own(f"echo:{self._node}:{number}")
            if self._servers.locate(channel) == server:
                self._echoes[channel.encode()] = server
                return

    async def check(self) -> float:
        """See that every server carries out commands, and that what is published on it arrives here.

        Returns:
            Seconds until the last of them had echoed.

        Raises:
            TimeoutError: not in time.
            BrokerError: a command was refused.
        """
        loop = asyncio.get_running_loop()
        start = loop.time()
        self._heard = {echo: asyncio.Event() for echo in self._echoes}
        async with asyncio.timeout(self._options.timeout):
            await asyncio.gather(
                *(
                    self._lanes[name].submit(command, first=True)
                    for echo, name in self._echoes.items()
                    # To delete what is not there is refused by a replica, and by a server that cannot save.
                    for command in (["SPUBLISH", echo, ""], ["DEL", echo])
                )
            )
            await asyncio.gather(*(heard.wait() for heard in self._heard.values()))
        self._require_whole()
        return loop.time() - start

    def waiting(self) -> int:
        """Commands that have no answer yet."""
        return sum(map(len, self._lanes.values()))

    def lane(self, base: str) -> tuple[Lane, str]:
        """The lane to the server that holds a user's keys, and the server's name.

        Raises:
            BrokerUnavailable: it is one that was not there when this was opened.
        """
        name = self._servers.locate(base)
        lane = self._lanes.get(name)
        if lane is None:
            self._failed(reason := "keys moved to a server that is new")
            raise BrokerUnavailable(reason)
        return lane, name

    def link(self, base: str) -> Link:
        """The link to the server that holds a user's keys.

        Raises:
            BrokerUnavailable: as above.
        """
        return self._links[self.lane(base)[1]]

    async def flush(self) -> None:
        """Wait until the servers have carried out all that was sent.

        Raises:
            BrokerError: one is lost, or has too much waiting for it.
        """
        await asyncio.gather(*(lane.submit(["PING"]) for lane in self._lanes.values()))

    async def settle(self) -> None:
        """The same for a bounded time, and whatever comes of it."""
        with contextlib.suppress(BrokerError, TimeoutError):
            async with asyncio.timeout(self._options.timeout):
                await self.flush()

    def close(self, reason: str) -> None:
        """Give everything up; harmless when repeated. Does not wait: connections close themselves in a moment."""
        self._closed = True
        for link in self._links.values():
            link.close()
        for lane in self._lanes.values():
            lane.close(reason)

    async def disconnect(self) -> None:
        """Close the connections; after `close`."""
        every: list[Lane | Link] = [*self._lanes.values(), *self._links.values()]
        await asyncio.gather(*(each.disconnect() for each in every), return_exceptions=True)

    def _received(self, channel: bytes, message: bytes) -> None:
        if message:
            self._receive(channel, message)
        elif (heard := self._heard.get(channel)) is not None:
            heard.set()

    def _failed(self, reason: str) -> None:
        if not self._closed:
            self._reason = reason
            self.close(reason)
            self._report(reason)

    def _require_whole(self) -> None:
        if self._closed:
            raise BrokerUnavailable(self._reason)


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for all, also when one fails: what goes on alone would open a connection that nobody closes."""
    for outcome in await asyncio.gather(*work, return_exceptions=True):
        if outcome is not None:
            raise outcome
