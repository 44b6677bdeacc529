"""The broker that lives in this process: nothing to install, and nothing outlives the process."""

from __future__ import annotations

import msgspec

from app.realtime.broker import (
    BrokerError,
    BrokerListener,
    History,
    Position,
    Published,
    StreamInfo,
    Subscriber,
    UnrecoverablePosition,
)
from app.realtime.clock import Clock, Timer
from app.realtime.idempotency import IdempotencyKeys
from app.realtime.streams import Streams

SWEEP_BATCH = 64
"""What one turn of the event loop lets expire, so that many at once hold nobody up."""


class MemoryStats(msgspec.Struct, frozen=True, gc=False):
    """How much a `MemoryBroker` holds now.

    Attributes:
        users: user keys that have streams.
        subscribers: user keys that have a subscriber.
        streams: of all user keys.
        bytes: memory of all streams that have not expired, as `max_bytes` counts it.
        idempotency_keys: of all user keys.
        presences: connections in channels.
    """

    users: int
    subscribers: int
    streams: int
    bytes: int
    idempotency_keys: int
    presences: int


class MemoryBroker:
    """`Broker` in this process.

    A stream starts with its first publication or reading. Its publications expire `history_ttl` after the last one.
    Its position (epoch and offset) goes when they have expired, its user key has no subscriber, and the last one left
    `history_ttl` ago or longer, so that a user who was quiet and lost the connection comes back to the same epoch. Then
    nothing of it stays. One timer, set for whatever expires first, sees to all that; a publish looks at its own
    stream alone.

    A publication heavier than the user's limit, or any with `history_size` 0, gets its offset, is delivered and is not
    kept; what the stream kept before goes with it, as nobody could recover across the gap.

    Args:
        clock: its steady time and timers are used.
        history_size: publications kept in a stream; 0 keeps none.
        history_ttl: seconds.
        max_bytes: memory of all streams and of what they keep, each with its overhead (see `app.realtime.stream`).
            Beyond it the stream published to longest ago loses its publications, oldest first; an emptied one counts as
            expired.
        max_bytes_per_user: memory of what the streams of one user key keep. At most `max_bytes`.
        max_streams_per_user: streams of one user key.
        idempotency_ttl: seconds for which an idempotency key is remembered.
        idempotency_keys_per_user: keys remembered for one user key; one more pushes out that user's oldest.
        idempotency_keys: keys remembered for all; one more pushes out the oldest.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        history_size: int,
        history_ttl: float,
        max_bytes: int,
        max_bytes_per_user: int,
        max_streams_per_user: int,
        idempotency_ttl: float,
        idempotency_keys_per_user: int,
        idempotency_keys: int,
    ) -> None:
        """Start empty and ready; no event loop is needed yet."""
        self._clock = clock
        self._monotonic = clock.monotonic
        self._subscribers: dict[str, Subscriber] = {}
        self._streams = Streams(
            size=history_size,
            ttl=history_ttl,
            max_bytes=max_bytes,
            max_bytes_per_user=max_bytes_per_user,
            max_per_user=max_streams_per_user,
            subscribed=self._subscribers,
        )
        self._idempotency = IdempotencyKeys(
            ttl=idempotency_ttl, per_user=idempotency_keys_per_user, limit=idempotency_keys
        )
        self._presence: dict[tuple[str, str], dict[str, str]] = {}
        self._presences = 0
        self._stored: dict[str, str] = {}
        # Nothing that comes later expires earlier than this after it came.
        self._longest_sleep = min(history_ttl, idempotency_ttl)
        self._timer: Timer | None = None
        self._closed = False

    async def start(self, listener: BrokerListener | None = None) -> None:
        """See `Broker.start`; there is nothing to get ready, and nothing that a listener would hear."""

    async def close(self) -> None:
        """See `Broker.close`. All streams, keys, presences and subscribers go; the timer too."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._streams.clear()
        self._idempotency.clear()
        self._subscribers.clear()
        self._presence.clear()
        self._presences = 0

    def healthy(self) -> bool:
        """True until closed: there is nothing else to lose."""
        return not self._closed

    def stats(self) -> MemoryStats:
        """How much is held now; costs the same however much it is."""
        return MemoryStats(
            users=self._streams.users,
            subscribers=len(self._subscribers),
            streams=len(self._streams),
            bytes=self._streams.bytes,
            idempotency_keys=len(self._idempotency),
            presences=self._presences,
        )

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
        """See `Broker.publish`. No attempt here has an uncertain fate, so none has a ticket."""
        now = self._monotonic()
        if self._timer is None:
            self._set_timer(now)
        if idempotency_key is not None:
            first = self._idempotency.find((key, channel, idempotency_key), now)
            if first is not None:
                return Published(first.epoch, first.offset, 0, duplicate=True)
        stream = self._streams.find(key, channel, now)
        publication = self._streams.append(stream, data, info, now)
        if idempotency_key is not None:
            # Before the delivery: should that fail, the publication is in the stream all the same.
            self._idempotency.add((stream.user.key, stream.channel, idempotency_key), stream.position, now)
        subscriber = self._subscribers.get(key)
        connections = 0 if subscriber is None else subscriber.deliver(publication)
        return Published(publication.epoch, publication.offset, connections)

    async def history(
        self, key: str, channel: str, *, since: Position | None = None, limit: int = -1, reverse: bool = False
    ) -> History:
        """See `Broker.history`."""
        now = self._monotonic()
        if self._timer is None:
            self._set_timer(now)
        stream = self._streams.find(key, channel, now)
        if since is not None and since.epoch and since.epoch != stream.epoch:
            raise UnrecoverablePosition
        return History(stream.position, stream.read(since, limit, reverse))

    async def subscribe(self, key: str, subscriber: Subscriber) -> None:
        """See `Broker.subscribe`."""
        self._require_open()
        self._subscribers[key] = subscriber
        self._streams.come_back(key)

    def unsubscribe(self, key: str, subscriber: Subscriber) -> None:
        """See `Broker.unsubscribe`."""
        if self._subscribers.get(key) is subscriber:
            del self._subscribers[key]
            self._streams.leave(key, self._monotonic())

    def notify(self, key: str, channel: str, push: str) -> None:
        """See `Broker.notify`."""
        subscriber = self._subscribers.get(key)
        if subscriber is not None:
            subscriber.notify(key, channel, push)

    async def add_presence(self, key: str, channel: str, client: str, info: str) -> None:
        """See `Broker.add_presence`."""
        self._require_open()
        clients = self._presence.setdefault((key, channel), {})
        self._presences += client not in clients
        clients[client] = info

    def remove_presence(self, key: str, channel: str, client: str) -> None:
        """See `Broker.remove_presence`."""
        clients = self._presence.get((key, channel))
        if clients is None or clients.pop(client, None) is None:
            return
        self._presences -= 1
        if not clients:
            del self._presence[key, channel]

    async def presence(self, key: str, channel: str) -> dict[str, str]:
        """See `Broker.presence`."""
        return dict(self._presence.get((key, channel), ()))

    async def broadcast(self, message: str) -> None:
        """See `Broker.broadcast`: there is no other node."""

    async def store(self, name: str, value: str | None) -> None:
        """See `Broker.store`."""
        self._require_open()
        if value is None:
            self._stored.pop(name, None)
        else:
            self._stored[name] = value

    async def recall(self, name: str) -> str | None:
        """See `Broker.recall`."""
        return self._stored.get(name)

    async def stored(self) -> dict[str, str]:
        """See `Broker.stored`."""
        return dict(self._stored)

    async def streams(self, key: str) -> tuple[StreamInfo, ...]:
        """See `Broker.streams`."""
        return tuple(
            StreamInfo(stream.channel, stream.position, len(stream.publications))
            for stream in self._streams.of(key, self._monotonic())
        )

    def _require_open(self) -> None:
        if self._closed:
            raise BrokerError("the broker is closed: its gateway has stopped")

    def _set_timer(self, now: float) -> None:
        """Wake up for whatever expires next. Set before anything is held that expires."""
        self._require_open()
        due = min(now + self._longest_sleep, self._streams.due, self._idempotency.due)
        self._timer = self._clock.call_later(max(0.0, due - now), self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = self._monotonic()
        for _ in range(SWEEP_BATCH):
            if not (self._streams.expire(now) or self._idempotency.expire(now)):
                break
        if len(self._streams) or len(self._idempotency):
            self._set_timer(now)
