"""The broker whose streams live in Redis or Valkey, for any number of nodes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
import time
from collections.abc import Callable, Set

from app.realtime.broker import (
    BrokerListener,
    BrokerUnavailable,
    History,
    Position,
    Publication,
    Published,
    StreamInfo,
    StreamLimitExceeded,
    Subscriber,
    UnrecoverablePosition,
)
from app.realtime.redis.attachment import Attachment
from app.realtime.redis.holdings import Holdings
from app.realtime.redis.nodes import Nodes
from app.realtime.redis.scripts import RedisOptions, Scripts
from app.realtime.redis.servers import Servers
from app.realtime.redis.statistics import Statistics
from app.realtime.redis.supervisor import Supervisor
from app.realtime.redis.unheard import Ahead, Unheard

logger = logging.getLogger(__name__)

PUBLISHED, DUPLICATE, TOO_LATE, TOO_MANY = 0, 1, 2, 3
READ, OTHER_EPOCH = 0, 1


class RedisBroker:
    """`Broker` on Redis or Valkey, 7 and later.

    A publish is one script, carried out in one step by the server that holds the user's keys, and one round trip;
    those that come together travel together. What is published comes back over a sharded pub/sub channel of the user
    key, to which a node is subscribed while it has a manager of the user, and to no other user's. Nothing is asked for
    a delivery.

    A server that cannot be reached, or does not echo within `timeout`, is lost: whatever is on its way fails, every
    subscriber is interrupted, and from then on calls raise `BrokerUnavailable` at once, until all servers are reached
    again.

    Args:
        servers: where they are.
        options: bounds and times.
        node: name of this node; no other one has it.

    Attributes:
        statistics: what it counts.
    """

    def __init__(self, servers: Servers, options: RedisOptions, node: str = "") -> None:
        """Not connected yet."""
        self.statistics = Statistics(time.monotonic)
        self._servers = servers
        self._options = options
        self._scripts = Scripts(options, servers.database)
        self._node = node or secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self._subscribers: dict[bytes, tuple[str, Subscriber]] = {}
        self._underway: dict[str, tuple[int, str] | None] = {}
        self._unheard = Unheard(options.pending)
        self._holdings = Holdings(self._scripts, options)
        self._nodes = Nodes(self._scripts, self._node)
        self._supervisor = Supervisor(self, self._holdings, options, self.statistics)
        self._listener: BrokerListener | None = None
        self._closed = False

    async def start(self, listener: BrokerListener | None = None) -> None:
        """See `Broker.start`. A server that cannot be reached is a lost one; it is tried again until it can."""
        self._listener = listener
        await self._supervisor.start(listener)

    async def close(self) -> None:
        """See `Broker.close`."""
        self._closed = True
        self._subscribers.clear()
        await self._supervisor.stop("the broker is closed")
        await self._servers.close()

    def healthy(self) -> bool:
        """See `Broker.healthy`."""
        return self._supervisor.attachment is not None

    def waiting(self) -> int:
        """Commands that have no answer yet."""
        return 0 if self._supervisor.attachment is None else self._supervisor.attachment.waiting()

    async def publish(
        self,
        key: str,
        channel: str,
        data: str,
        *,
        info: str = "",
        idempotency_key: str | None = None,
        ticket: str = "",
    ) -> Published:
        """See `Broker.publish`."""
        base = self._scripts.base(key)
        again, ticket = bool(ticket), ticket or f"{self._node}-{next(self._numbers)}"
        head = f'{{"data":{data},"info":{info},"offset":' if info else f'{{"data":{data},"offset":'
        attachment = self._supervisor.attached()
        lane, _ = attachment.lane(base)
        command = self._scripts.publish(
            base, lane.lineage, channel, head, ticket, again=again, idempotency_key=idempotency_key or ""
        )
        self._underway[ticket] = None
        try:
            kind, offset, epoch = await lane.submit(command)
        except BrokerUnavailable as error:
            seen = self._underway[ticket]
            if seen is None:
                raise BrokerUnavailable(error.reason, ticket=ticket if error.uncertain else "") from None
            # It came back to this node before the connection broke, so it is in the stream.
            kind, offset, epoch = PUBLISHED, seen[0], seen[1].encode()
        finally:
            heard = self._underway.pop(ticket)
        if kind == TOO_MANY:
            raise StreamLimitExceeded(self._options.max_streams_per_user)
        if kind == TOO_LATE:
            # The server saw it after this node had given it up, or their clocks went apart: it is not in the stream.
            self._supervisor.lose(reason := "the server was too late")
            raise BrokerUnavailable(reason)
        if kind == DUPLICATE:
            return Published(epoch.decode(), offset, 0, duplicate=True)
        held = self._subscribers.get(base.encode())
        if held is None:
            return Published(epoch.decode(), offset, 0)
        if heard is None:
            position = Position(offset, epoch.decode())
            self._unheard.add(ticket, Ahead(base.encode(), key, channel, head, position))
            if attachment is not self._supervisor.attachment:  # it was lost in this very moment
                self._deliver_ahead()
        return Published(epoch.decode(), offset, held[1].subscribed(channel))

    async def history(
        self, key: str, channel: str, *, since: Position | None = None, limit: int = -1, reverse: bool = False
    ) -> History:
        """See `Broker.history`."""
        base = self._scripts.base(key)
        lane, _ = self._supervisor.attached().lane(base)
        offset, epoch = (-1, "") if since is None else (since.offset, since.epoch)
        command = self._scripts.history(
            base, lane.lineage, channel, offset=offset, epoch=epoch, limit=limit, reverse=reverse
        )
        kind, top, known, entries = await lane.submit(command)
        if kind == OTHER_EPOCH:
            raise UnrecoverablePosition
        if kind != READ:
            raise StreamLimitExceeded(self._options.max_streams_per_user)
        position = Position(top, known.decode())
        return History(
            position,
            tuple(
                Publication(key, channel, number, position.epoch, text.decode(), len(text))
                for number, text in zip(entries[::2], entries[1::2], strict=True)
            ),
        )

    async def subscribe(self, key: str, subscriber: Subscriber) -> None:
        """See `Broker.subscribe`. While a server is lost it is noted, and holds as soon as all are reached."""
        self._require_open()
        base = self._scripts.base(key)
        before = self._subscribers.get(base.encode())
        self._subscribers[base.encode()] = key, subscriber
        if before is None:
            self._holdings.hold(base)
        attachment = self._supervisor.attachment
        if attachment is None:
            subscriber.interrupt()
            return
        with contextlib.suppress(BrokerUnavailable):  # then it is lost, and this subscriber interrupted, too
            lane, _ = attachment.lane(base)
            lane.post(self._scripts.hold(base, self._holdings.SHARE))
            try:
                # Also when it is subscribed already: a subscription that is on its way must have arrived.
                await attachment.link(base).subscribe([base])
            except TimeoutError:
                self._supervisor.lose("a subscription was not confirmed")

    def unsubscribe(self, key: str, subscriber: Subscriber) -> None:
        """See `Broker.unsubscribe`."""
        base = self._scripts.base(key)
        if self._subscribers.get(base.encode(), (key, None))[1] is not subscriber:
            return
        del self._subscribers[base.encode()]
        self._holdings.let_go(base)
        with contextlib.suppress(BrokerUnavailable):
            attachment = self._supervisor.attached()
            attachment.lane(base)[0].post(self._scripts.hold(base, 1))
            attachment.link(base).unsubscribe(base)

    def notify(self, key: str, channel: str, push: str) -> None:
        """See `Broker.notify`. While a server is lost, nobody hears of it."""
        base, name = self._scripts.base(key), channel.encode()
        self._post(base, ["SPUBLISH", base, b"n%d %s%s" % (len(name), name, push.encode())])

    async def add_presence(self, key: str, channel: str, client: str, info: str) -> None:
        """See `Broker.add_presence`. While a server is lost it is noted, and said as soon as all are reached."""
        self._require_open()
        base = self._scripts.base(key)
        self._holdings.enter(base, channel, client, info)
        if (attachment := self._supervisor.attachment) is not None:
            await attachment.lane(base)[0].submit(self._scripts.present(base, channel, client, info))

    def remove_presence(self, key: str, channel: str, client: str) -> None:
        """See `Broker.remove_presence`."""
        base = self._scripts.base(key)
        if self._holdings.exit(base, channel, client):
            self._post(base, self._scripts.absent(base, channel, client))

    async def presence(self, key: str, channel: str) -> dict[str, str]:
        """See `Broker.presence`."""
        base = self._scripts.base(key)
        found = await self._supervisor.attached().lane(base)[0].submit(self._scripts.presence(base, channel))
        return {client.decode(): info.decode() for client, info in zip(found[::2], found[1::2], strict=True)}

    async def streams(self, key: str) -> tuple[StreamInfo, ...]:
        """See `Broker.streams`."""
        base = self._scripts.base(key)
        lane, _ = self._supervisor.attached().lane(base)
        found = await lane.submit(self._scripts.streams(base, lane.lineage))
        channels = [channel.decode() for channel in found[::3]]
        lengths = await asyncio.gather(*(lane.submit(self._scripts.length(base, channel)) for channel in channels))
        return tuple(
            StreamInfo(channel, Position(offset, epoch.decode()), length)
            for channel, offset, epoch, length in zip(channels, found[1::3], found[2::3], lengths, strict=True)
        )

    async def broadcast(self, message: str) -> None:
        """See `Broker.broadcast`."""
        await self._nodes.broadcast(self._supervisor.attached(), message)

    async def store(self, name: str, value: str | None) -> None:
        """See `Broker.store`."""
        await self._nodes.store(self._supervisor.attached(), name, value)

    async def recall(self, name: str) -> str | None:
        """See `Broker.recall`."""
        return await self._nodes.recall(self._supervisor.attached(), name)

    async def stored(self) -> dict[str, str]:
        """See `Broker.stored`."""
        return await self._nodes.stored(self._supervisor.attached())

    def attachment(self, failed: Callable[[str], None]) -> Attachment:
        """See `Attached`."""
        return Attachment(
            self._servers, self._scripts, self._options, node=self._node, receive=self._receive, failed=failed
        )

    def channels(self) -> Set[bytes]:
        """See `Attached`."""
        return {self._nodes.channel, *self._subscribers}

    async def check(self, attachment: Attachment) -> None:
        """See `Attached`."""
        earlier = self._unheard.tickets()
        self.statistics.echo_seconds = await attachment.check()
        self._unheard.forget(earlier)

    def interrupt(self) -> None:
        """See `Attached`."""
        for _, subscriber in self._subscribers.values():
            subscriber.interrupt()
        self._deliver_ahead()

    def _post(self, base: str, command: list[object]) -> None:
        with contextlib.suppress(BrokerUnavailable):
            self._supervisor.attached().lane(base)[0].post(command)

    def _require_open(self) -> None:
        if self._closed:
            raise BrokerUnavailable("the broker is closed")

    def _receive(self, channel: bytes, message: bytes) -> None:
        """The path of every event that this node gets. What fails on it harms no other event."""
        try:
            self._hand_out(channel, message)
        except Exception as error:  # noqa: BLE001 - its text, or a traceback, could show what was published
            logger.error("a message from the broker was of no use: %s", type(error).__name__)

    def _hand_out(self, channel: bytes, message: bytes) -> None:
        self.statistics.messages += 1
        held = self._subscribers.get(channel)
        if held is None:
            if channel != self._nodes.channel:
                self.statistics.strays += 1
            elif self._listener is not None:
                self._nodes.receive(message, self._listener)
            return
        key, subscriber = held
        if message[:1] == b"n":
            length, rest = message[1:].split(b" ", 1)
            subscriber.notify(key, rest[: int(length)].decode(), rest[int(length) :].decode())
            return
        number, epoch, ticket, length, rest = message[1:].split(b" ", 4)
        offset, known, mine = int(number), epoch.decode(), ticket.decode()
        if mine in self._underway:
            self._underway[mine] = offset, known
        else:
            self._unheard.heard(mine)
        text = rest[int(length) :]
        subscriber.deliver(Publication(key, rest[: int(length)].decode(), offset, known, text.decode(), len(text)))

    def _deliver_ahead(self) -> None:
        """What was published here and acknowledged goes out before what will now be delivered live."""
        for ahead in self._unheard.take():
            held = self._subscribers.get(ahead.base)
            if held is not None:
                held[1].deliver_ahead(ahead.live(), ahead.position)
