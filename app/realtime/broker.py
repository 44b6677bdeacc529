"""What keeps streams and carries publications to the managers of their user: the protocol every engine implements.

A stream is named by a user key and a channel. The key comes first everywhere, so no call can reach across users, and
the same channel under two keys is two streams.
"""

from __future__ import annotations

from typing import Protocol

import msgspec


class Position(msgspec.Struct, frozen=True, gc=False):
    """A place in a stream. Offsets count from 1 within one epoch; offset 0 is before the first publication."""

    offset: int
    epoch: str


class Publication(msgspec.Struct, frozen=True, gc=False):
    """One publication as every connection gets it. Immutable, so that history and connections can share it.

    Attributes:
        key: user key of the stream; a manager of another key refuses it.
        channel: channel within the user's streams.
        offset: place in the stream; 0 for a live publication that no stream keeps.
        epoch: of the stream; empty for a live publication.
        text: the publication as JSON on one line, encoded once for all who get it.
        size: bytes of `text` in UTF-8.
    """

    key: str
    channel: str
    offset: int
    epoch: str
    text: str
    size: int


class History(msgspec.Struct, frozen=True):
    """Publications of a stream, and the stream's top position at the moment of reading."""

    position: Position
    publications: tuple[Publication, ...]


class Published(msgspec.Struct, frozen=True, gc=False):
    """What became of a publish.

    Attributes:
        epoch, offset: its position in the stream; empty and 0 while it is `queued`.
        connections: connections of this node that it was handed to.
        duplicate: its idempotency key was used before, nothing was published now; the position is that of the first.
        queued: it waits for the broker (degraded mode) and was delivered live. No broker says so.
    """

    epoch: str
    offset: int
    connections: int
    duplicate: bool = False
    queued: bool = False

    @property
    def position(self) -> Position:
        """Epoch and offset, to read on from there."""
        return Position(self.offset, self.epoch)


class StreamInfo(msgspec.Struct, frozen=True, gc=False):
    """One stream of a user, for operators: no content."""

    channel: str
    position: Position
    publications: int


class Subscriber(Protocol):
    """What a broker delivers to: the manager of one user key. No call waits; deliveries only enqueue."""

    def deliver(self, publication: Publication) -> int:
        """Hand a publication to the connections subscribed to its channel; their number."""

    def notify(self, key: str, channel: str, push: str) -> None:
        """Hand a push that no stream keeps (join, leave) to the connections subscribed to `channel`."""

    def subscribed(self, channel: str) -> int:
        """How many connections are subscribed to a channel."""

    def interrupt(self) -> None:
        """From now on deliveries may be missing, until the broker's listener heard `broker_restored`."""

    def deliver_ahead(self, publication: Publication, position: Position) -> None:
        """After `interrupt`: hand out live what was published here before, and was not delivered.

        Args:
            publication: a live one, without an offset.
            position: where it is in the stream.
        """


class BrokerListener(Protocol):
    """Who hears of the broker and, through it, of other nodes."""

    async def broker_lost(self, reason: str) -> None:
        """The engine cannot be reached: calls raise `BrokerUnavailable`, every subscriber was interrupted."""

    async def broker_restored(self) -> None:
        """Calls work again and every subscriber gets what is published from now on.

        Cancelled when the engine is lost again; called again a little later if it raises another `BrokerError`.
        """

    def broker_message(self, message: str) -> None:
        """Another node called `broadcast`."""


class BrokerError(Exception):
    """A broker could not do what was asked. `reason` is for logs and operators."""

    def __init__(self, reason: str) -> None:
        """Keep the reason."""
        super().__init__(reason)
        self.reason = reason


class BrokerUnavailable(BrokerError):
    """The engine cannot be reached now.

    Attributes:
        uncertain: what was asked may have been done, or may be done until the broker is restored.
        ticket: of a publish whose fate is uncertain: handed to the next attempt, it cannot be published twice. Empty:
            it was not published.
    """

    def __init__(self, reason: str, *, uncertain: bool = False, ticket: str = "") -> None:
        """Keep what is known."""
        super().__init__(reason)
        self.uncertain = uncertain
        self.ticket = ticket


class BrokerFull(BrokerError):
    """The engine can be reached and has no memory left for what was asked; nothing was done."""

    def __init__(self) -> None:
        """Say the remedy."""
        super().__init__(
            "Redis or Valkey is full: raise its maxmemory (that of the embedded one follows broker.max_bytes), or keep"
            " less with history.size and history.ttl"
        )


class UnrecoverablePosition(BrokerError):
    """The position is of another epoch than the stream (error 112 of the client protocol)."""

    def __init__(self) -> None:
        """Say the remedy."""
        super().__init__("the position is of another epoch: start again from the stream's top position")


class StreamLimitExceeded(BrokerError):
    """The user key has as many streams as it may (error 106)."""

    def __init__(self, limit: int) -> None:
        """Keep the limit."""
        super().__init__(
            f"the user has {limit} streams, the most allowed: use fewer channels, wait until unused ones expire, or"
            " raise broker.max_streams_per_user"
        )
        self.limit = limit


class Broker(Protocol):
    """Streams, live delivery and presence.

    Calls on one broker come from one event loop. What ends something (`unsubscribe`, `remove_presence`) does not wait,
    so that clean-up cannot be cancelled half-way; an engine that needs the network queues it and keeps the order per
    key.

    Publications of a stream expire some time after the last one. Its position is kept as long, and beyond that while
    its user key has a subscriber and for the same time after, so that a user who was quiet and lost the connection need
    not start again. Epoch and offset go together: a stream that starts anew has another epoch. After `close` every call
    that would add something raises `BrokerError`.
    """

    async def start(self, listener: BrokerListener | None = None) -> None:
        """Get ready. Called once, in the event loop that makes all later calls.

        An engine that cannot be reached is no error: the listener hears of it, and again when it can.
        """

    async def close(self) -> None:
        """Let go of everything. Harmless when repeated."""

    def healthy(self) -> bool:
        """Whether publishes, reads and deliveries work now, as far as the last check knows."""

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
        """Append to the stream and hand to its subscriber.

        The publication's text is `{"data":<data>,"info":<info>,"offset":<offset>}`, without `info` if that is empty. An
        error of the subscriber's `deliver` is raised here; the publication is in the stream by then.

        Args:
            data: JSON on one line (no line breaks: they separate messages on the wire), embedded as it is.
            info: the publishing client's info as a JSON object on one line; empty: none.
            idempotency_key: a publish with a key seen in this stream within the TTL publishes nothing.
            ticket: that of `BrokerUnavailable`, for another attempt. If the first one is in the stream, as far as that
                is kept, this gives its position and publishes nothing.

        Raises:
            StreamLimitExceeded: the stream would be one too many for `key`.
            BrokerUnavailable: the engine cannot be reached.
            BrokerError: the engine refused.
        """

    async def history(
        self, key: str, channel: str, *, since: Position | None = None, limit: int = -1, reverse: bool = False
    ) -> History:
        """What is kept, oldest first (`reverse`: newest first), and the top position.

        What is kept has no gap and reaches up to the top. So everything behind a position is there if the position is
        the top, or if the first publication behind it has the next offset.

        Reading the position of a stream that does not exist starts one, so that its epoch holds for what comes.

        Args:
            since: exclusive. Only what lies behind it (with `reverse`: before it). An empty epoch matches any. Its
                offset is from 0 to 2**63 - 1, and may be behind the top.
            limit: 0 reads the position alone, -1 everything; the first so many in the order asked for.

        Raises:
            UnrecoverablePosition: `since` names another epoch.
            StreamLimitExceeded: the stream would be one too many for `key`.
            BrokerUnavailable: the engine cannot be reached.
        """

    async def subscribe(self, key: str, subscriber: Subscriber) -> None:
        """From the return on, deliver what is published under `key`. One subscriber a key; a new one replaces it.

        An `unsubscribe` while this runs counts as the later of the two. While the engine cannot be reached, the
        subscriber is interrupted and gets what is published when it is restored.
        """

    def unsubscribe(self, key: str, subscriber: Subscriber) -> None:
        """Stop delivering to `subscriber`. Nothing happens when another one took its place."""

    def notify(self, key: str, channel: str, push: str) -> None:
        """Hand a push that no stream keeps to the subscriber of `key`, wherever it is."""

    async def add_presence(self, key: str, channel: str, client: str, info: str) -> None:
        """Say that connection `client` is in the channel; `info` is its ClientInfo as a JSON object on one line."""

    def remove_presence(self, key: str, channel: str, client: str) -> None:
        """Say that the connection left."""

    async def presence(self, key: str, channel: str) -> dict[str, str]:
        """Client ids in the channel, with their info as given."""

    async def streams(self, key: str) -> tuple[StreamInfo, ...]:
        """The streams of a user key."""

    async def broadcast(self, message: str) -> None:
        """Tell all other nodes that are connected to the engine now; their listeners hear `broker_message`.

        Raises:
            BrokerUnavailable: the engine cannot be reached; nobody, or with `uncertain` perhaps everybody, heard it.
        """

    async def store(self, name: str, value: str | None) -> None:
        """Remember a small value for all nodes, those that start later, too; None forgets it.

        Raises:
            BrokerUnavailable: the engine cannot be reached.
        """

    async def recall(self, name: str) -> str | None:
        """What is remembered under a name; None: nothing.

        Raises:
            BrokerUnavailable: the engine cannot be reached.
        """

    async def stored(self) -> dict[str, str]:
        """What is remembered, by name.

        Raises:
            BrokerUnavailable: the engine cannot be reached.
        """
